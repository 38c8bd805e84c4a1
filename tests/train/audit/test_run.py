"""`gendercls audit` as a user runs it."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps

from gendercls.cli import main

Run = Callable[..., CompletedProcess[str]]


def run_here(*args: object) -> CompletedProcess[str]:
    """The command within this process, which has torch loaded already."""
    done = CliRunner().invoke(main, [str(word) for word in args])
    return CompletedProcess(args, done.exit_code, done.stdout, done.stderr)


def without_times(text: str) -> str:
    return re.sub(r"in [\d.]+ s", "in TIME", text)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def faulty(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_data` with a file cut short, an exact copy in test, a mirrored one, and a small one of another label."""
    folder = tmp_path_factory.mktemp("faulty")
    shutil.copytree(small_data, folder, dirs_exist_ok=True)
    (folder / "00.jpg").write_bytes((folder / "00.jpg").read_bytes()[:500])
    shutil.copy(folder / "01.jpg", folder / "47.jpg")
    ImageOps.mirror(Image.open(folder / "02.jpg")).save(folder / "04.jpg", quality=70)
    Image.open(folder / "06.jpg").resize((50, 40)).save(folder / "07.jpg")
    return folder


@pytest.fixture(scope="module")
def audited(faulty: Path, small_weights: Path, run_gendercls: Run) -> tuple[CompletedProcess[str], Path]:
    out = faulty.parent / "audit-of-faulty"
    return run_gendercls("audit", faulty, "--out", out, "--init", small_weights, "--json", "--device", "cpu"), out


def test_what_was_found_is_said_and_is_no_failure(audited: tuple[CompletedProcess[str], Path], faulty: Path) -> None:
    """Unusable photos, copies, contradictions, leaks, shares and the judge's agreement, a line each; exit status 0."""
    done, out = audited
    said = without_times(done.stderr).splitlines()
    assert done.returncode == 0
    assert said[:3] == [
        f"1 columns of 48 photos from {faulty / 'labels.csv'}",
        "opening 48 photos",
        "comparing the photos with each other",
    ]
    assert said[4].startswith("warning: 1 photo cannot be used: damaged photo: ")
    assert said[5:9] == [
        "copies: 1 exact, 1 near, 1 mirrored, in 3 groups: 01.jpg = 47.jpg; 02.jpg = 04.jpg; 06.jpg = 07.jpg",
        "warning: 1 group of copies with labels that differ: 06.jpg (female) = 07.jpg (male)",
        "warning: 1 group of copies on both sides of the split; who is in which photo is unknown: "
        "01.jpg (train) = 47.jpg (test)",
        "shares: female 48.9 % (train 48.4, val 50.0, test 50.0), male 51.1 % (train 51.6, val 50.0, test 50.0)",
    ]
    assert re.fullmatch(r"judge: agrees with .* of the labels, out of fold", said[9])
    assert re.fullmatch(r"probable label errors: \d+ labels?", said[10])
    assert said[11:] == [
        f"written: {out} (see sheet.html there)",
        "audited 48 photos of labels.csv in TIME",
        "Labels say how a labeller would likely perceive a face, not anyone's gender.",
    ]


def test_the_findings_are_files(audited: tuple[CompletedProcess[str], Path]) -> None:
    """Each kind of finding has its CSV, and the sheet is beside them."""
    _, out = audited
    assert sorted(path.name for path in out.iterdir()) == [
        *("duplicates.csv", "label_errors.csv", "leaks.csv", "sheet.html", "unusable.csv")
    ]
    assert [row["path"] for row in rows(out / "unusable.csv")] == ["00.jpg"]
    assert (out / "leaks.csv").read_text() == (
        "kind,group,path,class,split\ncopies,1,01.jpg,male,train\ncopies,1,47.jpg,male,test\n"
    )
    duplicates = rows(out / "duplicates.csv")
    assert list(duplicates[0]) == ["group", "path", "kind", "distance", "class", "identity", "split"]
    assert [(row["group"], row["path"], row["kind"], row["class"]) for row in duplicates] == [
        ("1", "01.jpg", "first", "male"),
        ("1", "47.jpg", "exact", "male"),
        ("2", "02.jpg", "first", "female"),
        ("2", "04.jpg", "mirrored", "female"),
        ("3", "06.jpg", "first", "female"),
        ("3", "07.jpg", "near", "male"),
    ]
    errors = rows(out / "label_errors.csv")
    scores = [float(row["score"]) for row in errors]
    assert scores == sorted(scores, reverse=True)
    for row in errors:
        assert float(row["score"]) == pytest.approx(float(row["p_suggested"]) - float(row["p_label"]), abs=2e-6)
        assert {row["label"], row["suggested"]} == {"female", "male"}


def test_the_counts_are_json(audited: tuple[CompletedProcess[str], Path]) -> None:
    """--json prints the counts on stdout, and nothing else is there."""
    found = json.loads(audited[0].stdout)
    assert found["copies"] == {"exact": 1, "near": 1, "mirrored": 1}
    assert (found["photos"], found["contradictions"], found["leaking_groups"], found["split"]) == (48, 1, 1, "official")
    assert found["label_errors"]["judge"]["all classes"]["total"] == 47


def test_an_audit_is_not_overwritten(audited: tuple[CompletedProcess[str], Path], faulty: Path) -> None:
    """A folder that holds an audit is refused before any work."""
    done = run_here("audit", faulty, "--out", audited[1])
    assert (done.returncode, done.stderr) == (
        1,
        f"Error: the folder already holds an audit\n  where: {audited[1]}\n  do:    choose another --out\n",
    )


def test_without_weights_labels_are_not_judged(small_data: Path, tmp_path: Path) -> None:
    """Without --init the rest is done, the option is named, and there is no label_errors.csv."""
    done = run_here("audit", small_data, "--out", tmp_path / "audit")
    assert done.returncode == 0
    assert (
        "label errors: not looked for; give --init imagenet or --init FILE, weights to judge the labels with"
        in done.stderr.splitlines()
    )
    assert not (tmp_path / "audit" / "label_errors.csv").exists()


def test_all_attributes_of_real_photos(celeba: Path, tmp_path: Path, small_weights: Path) -> None:
    """--classes all judges each attribute by itself; a suspect's label is an attribute, or one with ``!``."""
    lines = (celeba / "list_attr_celeba.txt").read_text().splitlines()
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(["60", *lines[1:62]]) + "\n")
    (tmp_path / "img_align_celeba").symlink_to(celeba / "img_align_celeba")
    out = tmp_path / "audit"
    done = run_here("audit", tmp_path, "--classes", "all", "--init", small_weights, "--out", out)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"(?m)^judge: agrees with [\d.]+ % of the labels, out of fold, mean over 40 attributes; least", done.stderr
    )
    for row in rows(out / "label_errors.csv"):
        assert {row["label"], row["suggested"]} == {name := row["label"].lstrip("!"), f"!{name}"}


def test_a_split_that_is_asked_for_must_be_there(celeba: Path, tmp_path: Path) -> None:
    """--split official without its val and test parts is an error; without --split too few photos are only told."""
    lines = (celeba / "list_attr_celeba.txt").read_text().splitlines()
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(["3", *lines[1:5]]) + "\n")
    (tmp_path / "img_align_celeba").symlink_to(celeba / "img_align_celeba")
    (tmp_path / "list_eval_partition.txt").symlink_to(celeba / "list_eval_partition.txt")
    done = run_here("audit", tmp_path, "--split", "official")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "Error: the official split has no val and no test photos\n"
        "  where: CelebA\n  do:    choose --split identity or --split stratified\n"
    )
    done = run_here("audit", tmp_path)
    assert done.returncode == 0
    assert "leaks: not looked for, since there is no split" in done.stderr.splitlines()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ["--init", "none.pt"],
            "no such weights file\n  where: none.pt\n  do:    check the path\n",
        ),
        (
            ["--device", "tpu"],
            "no device 'tpu'\n  where: --device\n  do:    use auto, cpu, cuda or cuda:N\n",
        ),
        (
            ["--classes", "smiling=Smiling;serious=!Smiling"],
            "no attribute 'Smiling'\n  where: the attributes of labels.csv\n         Smiling\n         ^^^^^^^\n"
            "  do:    the attributes are: Male\n",
        ),
        (
            ["--classes", "one=Male&!Male;other=!(Male|!Male)"],
            "no class covers any photo\n  where: labels.csv\n  do:    check --classes\n",
        ),
    ],
)
def test_errors_are_whole_messages(words: list[str], error: str, small_data: Path) -> None:
    """Weights, a device and an attribute that are not there, classes of no photo: what, where and what to do."""
    done = run_here("audit", small_data, *words)
    assert done.returncode == (2 if "--device" in words else 1)
    assert done.stderr[done.stderr.index("Error: ") :] == f"Error: {error}"


def test_no_photo_that_can_be_used(small_data: Path, tmp_path: Path) -> None:
    """Labels whose photos are elsewhere are an error that says how many are missing."""
    shutil.copy(small_data / "labels.csv", tmp_path)
    done = run_here("audit", tmp_path)
    assert done.returncode == 1
    assert done.stderr[done.stderr.index("Error: ") :] == (
        "Error: none of the 48 photos can be used: No such file or directory (48)\n"
        f"  where: {tmp_path}\n  do:    check that the photos lie there under the names that the labels use\n"
    )


def test_too_few_groups_for_folds(small_data: Path, small_weights: Path, tmp_path: Path) -> None:
    """Photos of four people cannot be judged in five folds."""
    table = ["path,Male,identity", *(f"{n:02}.jpg,{n % 2},p{n % 4}" for n in range(12))]
    for n in range(12):
        shutil.copy(small_data / f"{n:02}.jpg", tmp_path)
    (tmp_path / "labels.csv").write_text("\n".join(table) + "\n")
    done = run_here("audit", tmp_path, "--init", small_weights)
    assert done.returncode == 1
    assert done.stderr[done.stderr.index("Error: ") :] == (
        "Error: labels are judged in 5 folds; the photos make 4 groups by identity and copies\n"
        f"  where: --init {small_weights.name}\n  do:    give more photos, or leave out --init\n"
    )
