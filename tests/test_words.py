"""What strangers chose reaches the terminal as text: names of files, columns of labels, what a model says of itself."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

OnTerminal = Callable[..., tuple[int, str]]
# Titles, hidden text, a bell, what goes back and overwrites, 8-bit escapes, marks that turn the reading direction; and
# what rich would take for markup and for an emoji.
CONTROLS = ["\x1b]2;", "\x1b[8m", "\x07", "\x08", "\r", "\n", "\x7f", "\x85", "\x9b8m"]
CONTROLS += ["\u202e", "\u2028", "[red]", ":car:"]
NAME = "".join(f"{control}mine" for control in CONTROLS)
SHOWN = NAME.encode("unicode_escape").decode()
OURS = re.compile(r"\r?\x1b\[(\?25[hl]|1A|2K|(?!8m)[\d;]*m)")
"""How rich draws its bar and its headings; it hides nothing, which is 8m."""
BELOW = SHOWN.replace("\\n", "\r\n" + " " * 9)
"""In the second line of an error, which may have several."""

COMMANDS = {
    "classify": (0, "classify NAME --out NAME.csv --model NAME.onnx --labels NAME.labels.csv", f"rows: {SHOWN}.csv"),
    "compare": (0, "compare NAME.1.csv NAME.2.csv --out NAME.csv.changed", f"at most ({SHOWN}.jpg)"),
    "sort": (0, "sort NAME.1.csv --photos NAME --into NAME.sorted", f"below {SHOWN}.sorted: 1"),
    "info": (0, "info NAME.onnx", f"licence of its data  {SHOWN}"),
    "JSON": (0, "info NAME.onnx --json", json.dumps(f"{NAME}.onnx")),
    "option": (2, "classify --NAME", f"--{SHOWN}"),
    "argument": (2, "info NAME.onnx NAME", f"unexpected extra argument ({SHOWN})"),
    "traceback": (1, "--debug info NAME", "ModelError: the model cannot be read"),
    "columns": (1, "classify NAME --out o.csv --model NAME.onnx --labels columns.csv", f"the attributes are: {BELOW}"),
    "values": (1, "classify NAME --out o.csv --model NAME.onnx --labels values.csv", f"Male={BELOW}"),
    "no photos": (1, "classify gone/NAME --out o.csv", f"where: gone/{BELOW}"),
}


@pytest.fixture(scope="module")
def folder(small_data: Path, null_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, labels and a model, all of that name; the model also calls itself so."""
    import onnx

    from gendercls.modelfile import METADATA_KEY

    folder = tmp_path_factory.mktemp("words")
    (folder / NAME).mkdir()
    shutil.copy(small_data / "00.jpg", folder / NAME / f"{NAME}.jpg")
    (folder / f"{NAME}.labels.csv").write_text(f'path,Male\n"{NAME}.jpg",1\n', newline="")
    (folder / "columns.csv").write_text(f'path,"{NAME}"\nx,1\n', newline="")
    (folder / "values.csv").write_text(f'path,Male\nx,"{NAME}"\n', newline="")
    header = f'path,label,confidence,"p_{NAME}",p_other,error'
    (folder / f"{NAME}.1.csv").write_text(f'{header}\n"{NAME}.jpg","{NAME}",0.9,0.9,0.1,\n', newline="")
    (folder / f"{NAME}.2.csv").write_text(f'{header}\n"{NAME}.jpg",other,0.8,0.2,0.8,\n', newline="")
    model = onnx.load(null_model)
    spec = json.loads(model.metadata_props[0].value) | {"name": NAME}
    spec["provenance"] |= {"data_licence": NAME, "data": NAME}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(spec)})
    onnx.save(model, str(folder / f"{NAME}.onnx"))
    return folder


@pytest.mark.parametrize("case", COMMANDS)
def test_a_terminal_obeys_no_stranger(folder: Path, run_on_terminal: OnTerminal, case: str) -> None:
    """On a real terminal each control character is shown, in results and in errors; what else steers it is ours."""
    status, typed, shown = COMMANDS[case]
    found, text = run_on_terminal(*typed.replace("NAME", NAME).split(" "), cwd=folder)
    plain = OURS.sub("", text)
    assert found == status, plain
    assert shown in plain
    assert [character for character in plain if not (character.isprintable() or character in "\r\n")] == []
    assert not re.search(r"[\r\n]mine", plain)
