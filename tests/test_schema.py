"""What ``--json`` prints is what docs/schema says: every key, no other, for each kind of run."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
Take = Callable[..., list[Path]]

SCHEMAS = Path(__file__).parents[1] / "docs" / "schema"
FREE = {
    "report": {"failures", "label_matches", "folders", "auc", "precision", "recall"},
    "classify": {"failures", "shares", "corrected_shares", "labels", "precision", "recall"},
    "compare": {"shares"},
    "verify": set(),
}
"""Objects whose keys are names: of classes, folders, reasons."""


class Schema:
    """The schema of a command, which counts what it has seen."""

    def __init__(self, command: str) -> None:
        jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
        self.command = command
        content = json.loads((SCHEMAS / f"{command}.json").read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(content)
        self.validator = jsonschema.Draft202012Validator(content)

    def check(self, content: Any) -> None:
        """Valid as it is; not with a key more or less in any object, but for those whose keys are names."""
        errors = [f"{error.json_path}: {error.message}" for error in self.validator.iter_errors(content)]
        assert errors == []
        for way, found in objects(content, "$"):
            name = way.rpartition(".")[2].partition("[")[0]
            found["no such key"] = []
            assert not self.validator.is_valid(content), f"{way} may have any key"
            del found["no such key"]
            if name in FREE[self.command] or ".folders." in way:
                continue
            for key, value in list(found.items()):
                del found[key]
                assert not self.validator.is_valid(content), f"{way} may lack {key}"
                found[key] = value


def objects(content: Any, way: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object, and the first of each list: the others are alike."""
    if isinstance(content, dict):
        yield way, content
        for key, value in content.items():
            yield from objects(value, f"{way}.{key}")
    elif isinstance(content, list) and content:
        yield from objects(content[0], f"{way}[0]")


@pytest.fixture(scope="module")
def schema() -> Callable[[str], Schema]:
    """``schema("report")``: that command's."""
    return Schema


@pytest.fixture(scope="module")
def json_of(run_gendercls: Run) -> Callable[..., Any]:
    """``json_of("report", …, status=0)``: what the command prints with ``--json``."""

    def run(*typed: object, status: int = 0, cwd: Path | None = None) -> Any:
        done = run_gendercls(*typed, "--json", cwd=cwd)
        assert done.returncode == status, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def photos(celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 CelebA photos in two folders, one of them cut off, and a note."""
    folder = tmp_path_factory.mktemp("schema") / "photos"
    for number in range(1, 61):
        place = folder / ("a" if number % 2 else "b") / f"{number:06}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(celeba / "img_align_celeba" / place.name, place)
    place.write_bytes(place.read_bytes()[:900])
    (folder / "notes.txt").write_text("none")
    return folder


@pytest.fixture(scope="module")
def labelled(photos: Path, celeba: Path, json_of: Callable[..., Any]) -> tuple[Path, Any]:
    """A preds.csv with a truth by the shipped model, and what classify said of it."""
    out = photos.with_name("labelled.csv")
    return out, json_of("classify", photos, "--out", out, "--labels", celeba, "--device", "cpu", "--quiet")


def test_report(labelled: tuple[Path, Any], celeba: Path, schema: Any, json_of: Any, tmp_path: Path) -> None:
    """With labels of every kind, and without any."""
    preds, _ = labelled
    found = json_of("report", preds, "--labels", celeba, "--label-noise", "0.1", "--out", tmp_path / "a.html")
    assert found["slices"]
    assert found["intersections"]
    assert found["folders"]
    assert found["shares"][0]["corrected"]
    schema("report").check(found)
    shutil.copy(preds, tmp_path)
    found = json_of("report", tmp_path / preds.name)
    assert found["why_not_corrected"]
    schema("report").check(found)
    rows = preds.read_text().splitlines()[1:]
    drawn = [row.split(",") for row in rows if row.split(",")[1]]
    lines = [f"{row[0]},{row[1] if number else 'undetermined'},1" for number, row in enumerate(drawn)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,truth,weight", *lines]) + "\n")
    found = json_of("report", preds, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "b.html")
    assert found["shares"][0]["by_hand"]
    assert found["accuracy_by_hand"]
    schema("report").check(found)


def test_report_of_nothing(schema: Any, json_of: Any, tmp_path: Path) -> None:
    """Where no photo could be read there are no numbers, and null instead of them."""
    (tmp_path / "p.csv").write_text(
        "path,label,confidence,p_female,p_male,truth,correct,error\na.jpg,,,,,male,0,empty file\n"
    )
    found = json_of("report", tmp_path / "p.csv")
    assert found["shares"][0]["raw"]["value"] is None
    schema("report").check(found)


def test_report_of_a_training_run(small_run: Path, schema: Any, json_of: Any, tmp_path: Path) -> None:
    """The page alone."""
    schema("report").check(json_of("report", small_run, "--out", tmp_path / "run.html"))


def test_classify(labelled: tuple[Path, Any], photos: Path, schema: Any, json_of: Any, tmp_path: Path) -> None:
    """With labels, without them, and with faces."""
    _, found = labelled
    assert found["scores"]
    schema("classify").check(found)
    found = json_of("classify", photos / "a", "--out", tmp_path / "a.csv", "--device", "cpu", "--quiet")
    assert found["corrected_shares"]
    schema("classify").check(found)


def test_faces(photos: Path, shared: Path, null_model: Path, schema: Any, json_of: Any, tmp_path: Path) -> None:
    """Their number in each photo is there; without them it is null."""
    detector = shared.parent / "weights" / "yunet_n_640_640.onnx"
    typed = ("classify", photos / "a", "--out", tmp_path / "f.csv", "--model", null_model, "--limit", 3, "--quiet")
    found = json_of(*typed, "--faces", "--face-model", detector, "--device", "cpu")
    assert found["photos_by_faces"]
    schema("classify").check(found)
    schema("report").check(json_of("report", tmp_path / "f.csv"))


def test_independent_attributes(photos: Path, attribute_model: Path, schema: Any, json_of: Any, tmp_path: Path) -> None:
    """They have scores of their own, and nothing that is of classes alone."""
    lines = [f"a/{number:06}.jpg,{number % 3 // 2},1,0" for number in range(1, 61, 2)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,Female,Not_Female,Clearly", *lines]) + "\n")
    typed = ("classify", photos / "a", "--out", tmp_path / "p.csv", "--model", attribute_model, "--device", "cpu")
    found = json_of(*typed, "--labels", tmp_path / "labels.csv", "--limit", 25, "--quiet")
    assert found["scores"]["attributes"]
    schema("classify").check(found)
    found = json_of("report", tmp_path / "p.csv")
    assert found["quality"]["brier"] is None
    schema("report").check(found)
    schema("compare").check(json_of("compare", tmp_path / "p.csv", tmp_path / "p.csv"))


def test_compare(labelled: tuple[Path, Any], photos: Path, celeba: Path, schema: Any, json_of: Any) -> None:
    """Two runs that differ, with slices and what is in one alone; and two copies without a truth or a record."""
    preds, _ = labelled
    (photos / "a" / "000001.jpg").rename(photos / "a" / "one.jpg")
    other = preds.with_name("other.csv")
    json_of("classify", photos, "--out", other, "--min-confidence", "0.9", "--device", "cpu", "--quiet")
    (photos / "a" / "one.jpg").rename(photos / "a" / "000001.jpg")
    found = json_of("compare", preds, other, "--labels", celeba, "--out", preds.with_name("changed.csv"))
    assert found["slices"]
    assert found["runs"]
    assert found["accuracy"]
    assert found["only_first"]["count"] == 1
    schema("compare").check(found)
    bare = preds.with_name("bare.csv")
    bare.write_bytes(other.read_bytes())
    found = json_of("compare", bare, bare)
    assert found["accuracy"] is None
    schema("compare").check(found)


def test_verify(photos: Path, null_model: Path, schema: Any, json_of: Any, tmp_path: Path) -> None:
    """A CSV that is right, and one that is not."""
    typed = ("classify", photos / "a", "--out", tmp_path / "v.csv", "--model", null_model, "--device", "cpu", "--quiet")
    json_of(*typed)
    schema("verify").check(json_of("verify", tmp_path / "v.csv", "--model", null_model))
    text = (tmp_path / "v.csv").read_text()
    (tmp_path / "v.csv").write_text(text.replace("000003.jpg", "gone.jpg"))
    found = json_of("verify", tmp_path / "v.csv", "--model", null_model, "--sample", 5, status=1)
    assert found["gone"]["first"]
    schema("verify").check(found)
