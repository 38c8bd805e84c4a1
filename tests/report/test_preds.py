"""``gendercls report preds.csv``: the numbers, and the page in a real browser."""

from __future__ import annotations

import csv
import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def preds(celeba: Path, run_gendercls: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 CelebA photos, one that is none and one that is cut off, classified by the shipped model."""
    folder = tmp_path_factory.mktemp("report")
    photos = folder / "photos"
    photos.mkdir()
    for path in sorted((celeba / "img_align_celeba").iterdir())[:300]:
        (photos / path.name).write_bytes(path.read_bytes())
    (photos / "000301.jpg").write_bytes((photos / "000300.jpg").read_bytes()[:900])
    (photos / "notes.txt").write_text("none")
    run_gendercls("classify", photos, "--out", folder / "preds.csv", "--device", "cpu").check_returncode()
    return folder / "preds.csv"


def report(run_gendercls: Run, preds: Path, *more: object, out: Path) -> tuple[dict[str, Any], str]:
    """The numbers, and what was said."""
    done = run_gendercls("report", preds, "--out", out, "--json", "--force", *more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def table_of(preds: Path) -> list[dict[str, str]]:
    with preds.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- the numbers ------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_rows(preds: Path, run_gendercls: Run, tmp_path: Path) -> None:
    """Counts and shares follow from the CSV; both corrections stand beside them, and nothing is said of accuracy."""
    found, said = report(run_gendercls, preds, out=tmp_path / "p.html")
    rows = table_of(preds)
    male = sum(row["label"] == "male" for row in rows)
    assert (found["rows"], found["answered"], found["failed"], found["not_photos"]) == (302, 300, 1, 1)
    assert found["failures"] == {"damaged photo": 1}
    share = found["shares"][1]
    assert (share["name"], share["raw"]["count"], share["raw"]["total"]) == ("male", male, 300)
    assert share["corrected"]["low"] < share["corrected"]["value"] < share["corrected"]["high"]
    assert abs(share["shifted"]["value"] - share["raw"]["value"]) < 0.1
    assert share["by_hand"] is None
    assert found["quality"] is None
    assert found["counted_on"].startswith("FairFace")
    assert f"The classifier perceives {100 * male / 300:.1f} %" in said
    assert "photos of people" not in said


def test_with_labels_there_are_accuracy_and_groups(
    preds: Path, celeba: Path, run_gendercls: Run, tmp_path: Path
) -> None:
    """As ``classify --labels`` counts it; the groups are CelebA's other attributes."""
    found, said = report(run_gendercls, preds, "--labels", celeba, "--label-noise", "0.02", out=tmp_path / "p.html")
    out = tmp_path / "again.csv"
    command = ("classify", preds.parent / "photos", "--out", out, "--labels", celeba, "--device", "cpu", "--json")
    again = json.loads(run_gendercls(*command).stdout)
    quality = found["quality"]
    assert quality["scores"]["accuracy"] == again["scores"]["accuracy"]
    assert quality["scores"]["confusion"] == again["scores"]["confusion"]
    assert found["shares"][1]["raw"] == again["shares"]["male"]
    assert quality["auc"]["male"]["value"] > 0.95
    noise, low, high = quality["label_noise"]
    assert noise == 0.02
    assert low == pytest.approx(quality["scores"]["accuracy"]["low"] - 0.02)
    assert high <= 1
    names = {slice_["attributes"][0] for slice_ in found["slices"]}
    assert {"Young", "Smiling"} <= names
    assert "Male" not in names
    assert found["intersections"]
    assert {each["attribute"] for each in found["parity"]} <= names
    assert "accuracy against CelebA" in said
    wrong = quality["scores"]["accuracy"]["total"] - quality["scores"]["accuracy"]["count"] - found["failed"]
    assert len(found["disputed"]) == wrong > 0
    assert {each["path"] for each in found["disputed"]} == {
        row["path"] for row in table_of(out) if row["correct"] == "0" and row["label"]
    }
    sureness = [each["confidence"] for each in found["disputed"]]
    assert sureness == sorted(sureness, reverse=True)
    # The CSV that has the labels itself says the same without them.
    own, _ = report(run_gendercls, out, out=tmp_path / "own.html")
    assert own["quality"]["scores"] == quality["scores"]
    assert own["slices"] == []


def sample_of(preds: Path, celeba: Path, count: int, path: Path) -> Path:
    """The labels that a person would have given, of so many rows drawn by two strata; one could not be determined."""
    lines = (celeba / "list_attr_celeba.txt").read_text().splitlines()
    column = lines[1].split().index("Male") + 1
    truth = {line.split()[0]: line.split()[column] == "1" for line in lines[2:302]}
    answered = [row for row in table_of(preds) if row["label"]]
    strata = {name: [row for row in answered if row["label"] == name] for name in ("female", "male")}
    chance = random.Random(5)  # noqa: S311 - a sample, no secret
    written = ["path,truth,weight,stratum"]
    for name, rows in strata.items():
        for number, row in enumerate(chance.sample(rows, count)):
            word = "male" if truth[row["path"]] else "female"
            word = "undetermined" if number == 0 and name == "male" else word
            written.append(f"{row['path']},{word},{len(rows) / count},{name}")
    path.write_text("\n".join(written) + "\n")
    return path


def test_hand_labels_make_the_headline(preds: Path, celeba: Path, run_gendercls: Run, tmp_path: Path) -> None:
    """Labels with weights are a sample of this very set: they estimate its share, and how right the answers are."""
    labels = sample_of(preds, celeba, 100, tmp_path / "labels.csv")
    found, said = report(run_gendercls, preds, "--labels", labels, out=tmp_path / "p.html")
    share = found["shares"][1]
    whole, _ = report(run_gendercls, preds, "--labels", celeba, out=tmp_path / "w.html")
    male = sum(whole["quality"]["scores"]["confusion"][1]) / 300
    assert share["by_hand"]["low"] <= male <= share["by_hand"]["high"]
    assert share["by_hand"]["high"] - share["by_hand"]["low"] < 0.07
    assert found["accuracy_by_hand"]["low"] <= whole["quality"]["scores"]["answered_accuracy"]["value"]
    assert (found["hand_labels"], found["undetermined"]) == (200, 1)
    assert found["quality"] is None
    assert "of the photos that can be determined would be perceived as male" in said
    assert (
        "The estimate rests on 200 photos of this set that a person labelled (1 of them as not determinable), and on"
        in said
    )


def test_a_rate_of_label_noise_needs_labels(preds: Path, celeba: Path, run_gendercls: Run, tmp_path: Path) -> None:
    """Without any, and with a drawn sample of them, there is no accuracy that it could be about."""
    labels = sample_of(preds, celeba, 40, tmp_path / "labels.csv")
    for more in ((), ("--labels", labels)):
        done = run_gendercls("report", preds, "--label-noise", "0.02", "--out", tmp_path / "p.html", *more)
        assert (done.returncode, done.stderr) == (
            2,
            "Error: --label-noise is about accuracy against labels, and there is none here\n"
            "  where: --label-noise 0.02\n  do:    give labels of these photos, without weights, or leave it out\n",
        )
        assert not (tmp_path / "p.html").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda row: row | {"weight": "-1"}, "a weight is no number above 0"),
        (lambda row: row | {"weight": "50"}, "photos, and 300 here have an answer"),
        (lambda row: row | {"stratum": "other"}, "a stratum has fewer than two hand labels"),
    ],
)
def test_labels_that_are_no_sample_of_these_photos(
    preds: Path,
    celeba: Path,
    run_gendercls: Run,
    tmp_path: Path,
    change: Callable[[dict[str, str]], dict[str, str]],
    what: str,
) -> None:
    """Weights that cannot be are refused, with the reason, and no page is written."""
    labels = sample_of(preds, celeba, 40, tmp_path / "labels.csv")
    first, *rest = table_of(labels)
    rows = [change(first), *rest]
    with labels.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerows(rows)
    done = run_gendercls("report", preds, "--labels", labels, "--out", tmp_path / "p.html")
    assert done.returncode == 1
    assert what in done.stderr
    assert not (tmp_path / "p.html").exists()


def test_labels_of_faces(run_gendercls: Run, tmp_path: Path) -> None:
    """A sheet of faces names each by its number; the label of a whole photo counts where it has one face."""
    lines = ["path,face,x,y,w,h,face_confidence,label,confidence,p_female,p_male,error"]
    for number in range(40):
        for face in (1, 2):
            sure = 0.9 if (number + face) % 2 else 0.1
            answer = f"{'female' if sure > 0.5 else 'male'},0.900000,{sure:.6f},{1 - sure:.6f}"
            lines.append(f"{number}.jpg,{face},1,1,9,9,0.900000,{answer},")
    preds = tmp_path / "preds.csv"
    preds.write_text("\n".join(lines) + "\n")
    labels = ["path,face,truth,weight,stratum"]
    labels += [
        f"{number}.jpg,{face},{'female' if face == 1 else 'male'},2,all" for number in range(20) for face in (1, 2)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(labels) + "\n")
    found, said = report(run_gendercls, preds, "--labels", tmp_path / "labels.csv", out=tmp_path / "p.html")
    assert (found["rows"], found["photos"], found["hand_labels"]) == (80, 40, 40)
    assert "of these faces would be perceived as male.\nThe estimate rests on 40 faces of this set" in said
    assert "Faces count as if each was a photo by itself." in (tmp_path / "p.html").read_text(encoding="utf-8")
    assert found["shares"][0]["by_hand"]["value"] == pytest.approx(0.5)
    assert found["accuracy_by_hand"]["value"] == pytest.approx(0.5)


# --- the page ---------------------------------------------------------------------------------------------------


def test_the_page_in_a_browser(
    preds: Path, celeba: Path, run_gendercls: Run, tmp_path: Path, visit: Callable[..., Any]
) -> None:
    """It asks for nothing, says what was counted, shows photos only where asked, and axe finds nothing wrong."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = tmp_path / "p.html"
    photos = preds.parent / "photos"
    found, said = report(run_gendercls, preds, "--labels", celeba, "--photos", photos, out=page)
    for scheme, width in (("light", 1200), ("dark", 390)):
        seen = visit(page, color_scheme=scheme, viewport={"width": width, "height": 800})
        assert (seen.requested, seen.said) == ([], [])
        assert f"{100 * found['shares'][1]['raw']['value']:.1f} %" in seen.page.inner_text("#shares + .headline")
        assert seen.page.locator("img").count() >= 24
        assert seen.page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        assert seen.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        violations = axe.run(seen.page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in violations] == []
    assert "photos of people become part of the page" in said
    assert page.stat().st_size < 2_000_000
    report(run_gendercls, preds, "--labels", celeba, "--photos", photos, "--no-thumbnails", out=page)
    plain = visit(page)
    assert plain.page.locator("img").count() == 0
    assert "000" in plain.page.inner_text("#disputed + p + ol")


def test_names_of_strangers_do_nothing(run_gendercls: Run, tmp_path: Path, visit: Callable[..., Any]) -> None:
    """Names of photos, folders and errors that are scripts are shown as text."""
    bad = "<script>document.title='run'</script><img src=x onerror=alert(1)>"
    lines = ["path,label,confidence,p_female,p_male,truth,correct,error"]
    for number in range(30):
        lines.append(f"{bad}{number % 2}/{number}.jpg,female,0.900000,0.900000,0.100000,male,0,")
    lines.append(f"x.jpg,,,,,male,0,{bad}")
    (tmp_path / "preds.csv").write_text("\n".join(lines) + "\n")
    report(run_gendercls, tmp_path / "preds.csv", out=tmp_path / "p.html")
    seen = visit(tmp_path / "p.html")
    assert (seen.requested, seen.said) == ([], [])
    assert seen.page.title() == "How 31 photos are perceived: preds.csv"
    assert bad in seen.page.inner_text("#folders + div")
    assert bad in seen.page.inner_text("#failures + div")


# --- what cannot be reported ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("path,label\n", "this is no CSV that gendercls classify wrote"),
        ("", "this is no CSV that gendercls classify wrote"),
        ("path,label,confidence,p_a,p_b,error\nx.jpg,a,0.9\n", "the CSV is damaged: 3 fields instead of 6"),
        (
            "path,label,confidence,p_a,p_b,error\nx.jpg,c,0.9,0.9,0.1,\n",
            "the CSV is damaged: 'c' is none of the classes",
        ),
        ("path,label,confidence,p_a,p_b,error\nx.jpg,a,2,0.9,0.1,\n", "a probability is not between 0 and 1"),
        ("path,label,confidence,p_a,p_b,error\nx.jpg,a,much,0.9,0.1,\n", "could not convert string to float"),
    ],
)
def test_files_that_are_no_predictions(run_gendercls: Run, tmp_path: Path, content: str, what: str) -> None:
    """Named, with the reason; no page is written."""
    (tmp_path / "preds.csv").write_text(content)
    done = run_gendercls("report", "preds.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert what in done.stderr
    assert "preds.csv" in done.stderr
    assert not (tmp_path / "preds.html").exists()


def test_an_unfinished_run_has_no_report(preds: Path, run_gendercls: Run, tmp_path: Path) -> None:
    """Neither before its first end, nor while another one is about to replace it."""
    (tmp_path / "p.csv.part").write_bytes(preds.read_bytes())
    done = run_gendercls("report", "p.csv", cwd=tmp_path)
    assert (done.returncode, "the run is not finished" in done.stderr) == (1, True)
    (tmp_path / "p.csv").write_bytes(preds.read_bytes())
    done = run_gendercls("report", "p.csv", cwd=tmp_path)
    assert (done.returncode, "another run of this output is not finished" in done.stderr) == (1, True)
