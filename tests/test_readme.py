"""Every command in the README runs, and prints what the README says it prints."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent
README = CHECKOUT / "README.md"
PHOTOS = 80


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", README.read_text(encoding="utf-8"))


def commands() -> list[tuple[str, str]]:
    """Each command with the output shown after it."""
    return re.findall(r"(?m)^\$ (.*)\n((?:(?!\$ ).*\n?)*)", "\n".join(blocks("console")))


def without_times(text: str) -> str:
    """What must be the same on every machine: all but durations, speeds and blanks at line ends."""
    text = re.sub(r" in [\d.]+ (s|min \d+ s) \([\d.]+/s\)", " in TIME", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """A folder with what the README's commands name: the demo's photos, a small CelebA, initial weights."""
    folder = tmp_path_factory.mktemp("readme")
    subprocess.run([sys.executable, CHECKOUT / "demo" / "photos.py", folder / "demo" / "photos"], check=True)
    source, celeba = shared / "celeba-8k", folder / "celeba"
    (celeba / "img_align_celeba").mkdir(parents=True)
    attributes = (source / "list_attr_celeba.txt").read_text().splitlines()
    text = "\n".join([str(PHOTOS), attributes[1], *attributes[2 : 2 + PHOTOS]]) + "\n"
    (celeba / "list_attr_celeba.txt").write_text(text)
    shutil.copy(source / "identity_CelebA.txt", celeba)
    for line in attributes[2 : 2 + PHOTOS]:
        shutil.copy(source / "img_align_celeba" / line.split()[0], celeba / "img_align_celeba")
    shutil.copy(shared.parent / "weights" / "inception_v3_faces.pt", folder / "weights.pt")
    # As if it had been downloaded before: tests use no network, and `faces download` finds it there.
    detector = folder / "data" / "gendercls" / "yunet_n_640_640.onnx"
    detector.parent.mkdir(parents=True)
    shutil.copy(shared.parent / "weights" / detector.name, detector)
    return folder


def test_every_command_runs_and_prints_what_is_shown(folder: Path) -> None:
    """The README's commands, in order, in one folder: each ends well and gives the output under it, times apart."""
    bin_folder = str(Path(sys.executable).parent)
    environment = {"PATH": f"{bin_folder}:/usr/bin:/bin", "XDG_DATA_HOME": str(folder / "data")}
    environment["OMP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
    for command, shown in commands():
        words = shlex.split(command)
        if words[0] == "gendercls":
            words[:1] = [sys.executable, "-m", "gendercls"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if shown.strip():
            assert without_times(done.stdout + done.stderr) == without_times(shown), command


def test_every_python_block_runs(folder: Path) -> None:
    """The README's Python runs, and finds the truncated photo's error."""
    for block in blocks("python"):
        done = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "truncated" in done.stdout


def test_every_make_target_named_exists() -> None:
    """`make X` in the README and in CONTRIBUTING is a target of the Makefile."""
    text = README.read_text(encoding="utf-8") + (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:`|^)make ([a-z]+)", text, re.MULTILINE))
    assert named
    assert named <= set(re.findall(r"(?m)^([a-z]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8")))


def test_commands_page_is_the_help() -> None:
    """docs/commands.md is what --help says today: python docs/write_commands.py writes it."""
    written = (CHECKOUT / "docs" / "commands.md").read_text(encoding="utf-8")
    script = [sys.executable, "-c", "import runpy; print(runpy.run_path('docs/write_commands.py')['page'](), end='')"]
    done = subprocess.run(script, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.stdout == written, done.stderr
