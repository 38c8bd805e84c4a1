"""``gendercls classify --faces`` as a person runs it: whole photos, groups, and photos without anybody."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gendercls import Classifier
from gendercls.images import decode

Run = Callable[..., subprocess.CompletedProcess[str]]
Take = Callable[..., list[Path]]
Rows = Callable[[Path], list[dict[str, str]]]
Box = tuple[int, int, int, int]

HEAD = (180, 64, 270, 176)  # left, top, right, bottom of the face in the portrait of 512 × 512 pixels, by eye
GROUPS = ("0_Parade_Parade_0_459.jpg", "1_Handshaking_Handshaking_1_579.jpg")


@pytest.fixture(scope="session")
def detector(shared: Path) -> Path:
    """The file that ``gendercls faces download`` gets."""
    return shared.parent / "weights" / "yunet_n_640_640.onnx"


@pytest.fixture(scope="session")
def samples() -> Path:
    """The photos that scikit-image's wheel carries."""
    spec = find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "data"


@pytest.fixture(scope="session")
def portrait(samples: Path) -> Image.Image:
    """A person from the chest up, 512 × 512 pixels (NASA, public domain)."""
    return Image.open(samples / "astronaut.png").convert("RGB")


@pytest.fixture(scope="module")
def run(run_gendercls: Run, detector: Path) -> Run:
    """``run(folder, *more)``: the command in that folder, over its ``photos``; it must end well."""

    def classify(folder: Path, *more: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        typed = ("classify", "photos", "--out", "o.csv", "--device", "cpu", "--faces", "--face-model", detector)
        done = run_gendercls(*typed, *more, cwd=folder)
        assert done.returncode == status, done.stderr
        return done

    return classify


@pytest.fixture(scope="module")
def finished(take: Take, run: Run, shared: Path, samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 16 portraits, two groups, a cat, a landscape, half a photo and a note, and ``o.csv`` over them."""
    folder = tmp_path_factory.mktemp("faces")
    take(folder / "photos", 16)
    for name in GROUPS:
        shutil.copy(shared / "wider-100" / "images" / name, folder / "photos")
    for name in ("chelsea.png", "coffee.png"):
        shutil.copy(samples / name, folder / "photos")
    whole = (folder / "photos" / "000001.jpg").read_bytes()
    (folder / "photos" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "photos" / "notes.txt").write_text("taken in May")
    run(folder)
    return folder


def by_photo(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """A CSV's rows, photo by photo, in their order."""
    return {path: list(group) for path, group in groupby(rows, key=lambda row: row["path"])}


def box_of(row: dict[str, str]) -> Box:
    """Left, top, width, height."""
    return int(row["x"]), int(row["y"]), int(row["w"]), int(row["h"])


def overlap(box: Box, other: Box) -> float:
    """Intersection over union."""
    low = np.maximum(box[:2], other[:2])
    high = np.minimum(np.add(box[:2], box[2:]), np.add(other[:2], other[2:]))
    common = float(np.prod((high - low).clip(0)))
    return common / (box[2] * box[3] + other[2] * other[3] - common)


def placed(left: int, top: int, scale: float = 1.0) -> Box:
    """Where the face of the portrait is once it was pasted there."""
    x, y, right, bottom = (scale * edge for edge in HEAD)
    return round(left + x), round(top + y), round(right - x), round(bottom - y)


# --- rows -------------------------------------------------------------------------------------------------------


def test_every_photo_has_a_row_for_each_of_its_faces(finished: Path, rows: Rows) -> None:
    """'One row for every face, numbered from 1, sorted by x, y, w, h … a photo without a face has one row'."""
    found = rows(finished / "o.csv")
    head = (finished / "o.csv").read_text(encoding="utf-8").partition("\n")[0]
    assert head == "path,face,x,y,w,h,face_confidence,label,confidence,p_female,p_male,error"
    photos = by_photo(found)
    assert list(photos) == sorted(os.listdir(finished / "photos"))
    for name, faces in photos.items():
        if name in GROUPS:
            assert len(faces) > 3
        if faces[0]["face"] not in ("", "0"):
            size = decode((finished / "photos" / name).read_bytes()).size
            boxes = [box_of(row) for row in faces]
            assert boxes == sorted(boxes)
            assert [row["face"] for row in faces] == [str(n) for n in range(1, len(faces) + 1)]
            assert all(x >= 0 and y >= 0 and x + w <= size[0] and y + h <= size[1] for x, y, w, h in boxes)
            assert all(min(w, h) >= 20 for _, _, w, h in boxes)
            assert all(0.6 <= float(row["face_confidence"]) <= 1 for row in faces)
            assert {row["label"] for row in faces} <= {"female", "male"}
    assert [len(photos[f"{number:06}.jpg"]) for number in range(1, 17)] == [1] * 16


def test_nobody_is_an_answer_and_no_failure(finished: Path, rows: Rows) -> None:
    """A coffee cup is ``no face``; half a photo and a note say why they have no answer."""
    photos = by_photo(rows(finished / "o.csv"))
    empty = dict.fromkeys(("x", "y", "w", "h", "face_confidence", "confidence", "p_female", "p_male", "error"), "")
    assert photos["coffee.png"] == [{"path": "coffee.png", "face": "0", "label": "no face", **empty}]
    for name, reason in (("broken.jpg", "damaged photo"), ("notes.txt", "not a photo")):
        (row,) = photos[name]
        assert row["error"].startswith(reason)
        assert {row[key] for key in row if key not in ("path", "error")} == {""}


def test_faces_found_are_the_labelled_ones(finished: Path, shared: Path, rows: Rows) -> None:
    """Most boxes of a real group photo lie on faces that people marked."""
    marked = [line.split(",") for line in (shared / "wider-100" / "faces.csv").read_text().splitlines()[1:]]
    name = GROUPS[1]
    truth = [tuple(round(float(v)) for v in values) for file, *values in marked if file == name]
    found = [box_of(row) for row in by_photo(rows(finished / "o.csv"))[name]]
    hits = sum(max(overlap(box, other) for other in truth) >= 0.4 for box in found)  # type: ignore[arg-type]
    assert hits >= 0.8 * len(found)


def test_a_face_is_classified_from_its_crop_alone(
    tmp_path: Path, detector: Path, finished: Path, celeba: Path, rows: Rows
) -> None:
    """A portrait in the corner of a wide photo gets the answer that its face gets by itself."""
    photo = Image.open(celeba / "img_align_celeba" / "000002.jpg").convert("RGB").resize((356, 436))
    wide = Image.new("RGB", (1600, 1000), (90, 120, 150))
    wide.paste(photo, (1100, 300))
    classifier = Classifier(device="cpu", faces=True, face_model=detector)
    (alone,), (aside,) = ([*classifier.predict([np.asarray(image)])] for image in (photo, wide))
    assert alone.face is not None
    assert aside.face is not None
    box = (alone.face.x + 1100, alone.face.y + 300, alone.face.w, alone.face.h)
    assert overlap(box, (aside.face.x, aside.face.y, aside.face.w, aside.face.h)) > 0.8
    assert alone.label == aside.label
    assert abs(alone.probabilities[0] - aside.probabilities[0]) < 0.1


def test_python_gets_what_the_command_writes(finished: Path, detector: Path, rows: Rows) -> None:
    """``Classifier(faces=True)``: a prediction for each row, with the face's box, the numbers the same."""
    classifier = Classifier(device="cpu", faces=True, face_model=detector, jobs=3, batch_size=5)
    found = rows(finished / "o.csv")
    names = list(by_photo(found))
    predictions = list(classifier.predict(finished / "photos" / name for name in names))
    assert [(p.label, p.error) for p in predictions] == [(row["label"], row["error"]) for row in found]
    for prediction, row in zip(predictions, found, strict=True):
        if prediction.face is not None:
            face = prediction.face
            assert ((face.x, face.y, face.w, face.h), face.confidence) == (box_of(row), float(row["face_confidence"]))
            assert [f"{p:.6f}" for p in prediction.probabilities] == [row["p_female"], row["p_male"]]


# --- going on ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_run_cut_within_a_photos_rows_goes_on_to_the_same_bytes(
    finished: Path, tmp_path: Path, run: Run, jobs: int
) -> None:
    """'The last photo's rows are dropped and redone', however many it has, and with any number of threads."""
    copy = shutil.copytree(finished, tmp_path / "copy")
    whole = (copy / "o.csv").read_bytes()
    (copy / "o.csv").unlink()
    cut = whole.rindex(GROUPS[1].encode()) - 40  # several of the group's faces are there, and half of one
    (copy / "o.csv.part").write_bytes(whole[:cut])
    said = json.loads(run(copy, "--json", "--jobs", jobs).stdout)
    assert (copy / "o.csv").read_bytes() == whole
    assert said["kept_files"] == sorted(os.listdir(copy / "photos")).index(GROUPS[1])
    assert said["kept_files"] > 5


def test_a_killed_run_goes_on_to_the_same_bytes(finished: Path, tmp_path: Path, run: Run, detector: Path) -> None:
    """``kill -9`` once there are rows."""
    copy = shutil.copytree(finished, tmp_path / "copy")
    whole = (copy / "o.csv").read_bytes()
    (copy / "o.csv").unlink()
    typed = ("classify", "photos", "--out", "o.csv", "--device", "cpu", "--faces", "--face-model", str(detector))
    command = [sys.executable, "-m", "gendercls", *typed, "--jobs", "1", "--batch-size", "1"]
    with subprocess.Popen(command, cwd=copy, stderr=subprocess.DEVNULL) as process:
        part = copy / "o.csv.part"
        while process.poll() is None and (not part.exists() or part.stat().st_size < 400):
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    run(copy)
    assert (copy / "o.csv").read_bytes() == whole


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        (("--min-face", 30), "another min face; going on would mix the answers of two\n  where: o.csv.run.json has 20"),
        (
            ("--max-faces", 1),
            "other max faces; going on would mix the answers of two\n  where: o.csv.run.json has none,",
        ),
    ],
)
def test_other_options_are_another_run(
    finished: Path, tmp_path: Path, run: Run, more: tuple[object, ...], difference: str
) -> None:
    """What decides the rows must stay as it was."""
    (tmp_path / "photos").symlink_to(finished / "photos")
    shutil.copy(finished / "o.csv", tmp_path / "o.csv.part")
    shutil.copy(finished / "o.csv.run.json", tmp_path)
    assert difference in run(tmp_path, *more, status=1).stderr


def test_a_mended_photo_gets_rows_for_its_faces(finished: Path, tmp_path: Path, run: Run, rows: Rows) -> None:
    """``--retry-failed`` puts all of a photo's faces where its failure stood, and leaves every other byte."""
    copy = shutil.copytree(finished, tmp_path / "copy")
    before = (copy / "o.csv").read_bytes()
    shutil.copy(copy / "photos" / GROUPS[0], copy / "photos" / "broken.jpg")
    assert "retried what had failed: 1 of 1 have an answer now" in run(copy, "--retry-failed").stderr
    after = by_photo(rows(copy / "o.csv"))
    faces = [{**row, "path": "broken.jpg"} for row in after[GROUPS[0]]]
    assert after["broken.jpg"] == faces
    kept = [line for line in (copy / "o.csv").read_bytes().splitlines(True) if not line.startswith(b"broken.jpg")]
    assert kept == [line for line in before.splitlines(True) if not line.startswith(b"broken.jpg")]


# --- which faces ------------------------------------------------------------------------------------------------


def test_few_or_large_faces_alone(finished: Path, tmp_path: Path, run: Run, rows: Rows) -> None:
    """``--max-faces`` keeps the largest, still in order; ``--min-face`` what is large enough in the photo."""
    (tmp_path / "photos").mkdir()
    shutil.copy(finished / "photos" / GROUPS[1], tmp_path / "photos")
    every = [box_of(row) for row in by_photo(rows(finished / "o.csv"))[GROUPS[1]]]
    run(tmp_path, "--max-faces", 3)
    largest = sorted(sorted(every, key=lambda box: -box[2] * box[3])[:3])
    assert [box_of(row) for row in rows(tmp_path / "o.csv")] == largest
    side = min(largest[0][2:])
    run(tmp_path, "--min-face", side, "--force")
    assert [box_of(row) for row in rows(tmp_path / "o.csv")] == [box for box in every if min(box[2:]) >= side]


def test_only_a_single_face_is_scored(finished: Path, tmp_path: Path, run: Run, rows: Rows, celeba: Path) -> None:
    """'``correct`` is empty where the photo has not exactly one face', and the summary counts accordingly."""
    (tmp_path / "photos").symlink_to(finished / "photos")
    labels = ["path,Male"]
    truth = dict(line.split(maxsplit=1) for line in (celeba / "list_attr_celeba.txt").read_text().splitlines()[2:18])
    head = (celeba / "list_attr_celeba.txt").read_text().splitlines()[1].split()
    labels += [f"{name},{values.split()[head.index('Male')]}" for name, values in truth.items()]
    labels += [f"{name},1" for name in (*GROUPS, "coffee.png", "broken.jpg")]
    (tmp_path / "labels.csv").write_text("\n".join(labels) + "\n")
    done = run(tmp_path, "--labels", "labels.csv", "--json")
    photos, said = by_photo(rows(tmp_path / "o.csv")), json.loads(done.stdout)
    single = [group[0] for group in photos.values() if group[0]["truth"] and [r["face"] for r in group] == ["1"]]
    others = [row for group in photos.values() for row in group if row not in single]
    assert {row["correct"] for row in others} == {""}
    assert [row["correct"] for row in single] == [str(int(row["label"] == row["truth"])) for row in single]
    right = sum(row["correct"] == "1" for row in single)
    accuracy = said["scores"]["accuracy"]
    assert (accuracy["count"], accuracy["total"]) == (right, len(single))
    assert len(single) == 16
    counts = said["photos_by_faces"]
    assert counts["one face"] + counts["no face"] + counts["several faces"] == len(photos) - 2
    assert counts["several faces"] == 2
    faces = sum(row["face"] not in ("", "0") for row in rows(tmp_path / "o.csv"))
    assert said["answered"] == faces
    said_lines = done.stderr.splitlines()
    assert "scored are those with exactly one: 16 of 19" in said_lines
    assert any(line.endswith(f"2 with several faces; faces: {faces}") for line in said_lines)


# --- photos as people have them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
def test_a_turned_photo_has_its_boxes_upright(
    tmp_path: Path, portrait: Image.Image, detector: Path, orientation: int
) -> None:
    """Boxes are in pixels of the photo as it is seen, whatever way it is stored."""
    wide = Image.new("RGB", (1500, 900), (90, 120, 150))
    wide.paste(portrait, (900, 300))
    undo = {
        1: None,
        3: Image.Transpose.ROTATE_180,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored, exif = wide if undo is None else wide.transpose(undo), Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", quality=95, exif=exif)
    (found,) = Classifier(device="cpu", faces=True, face_model=detector).predict([tmp_path / "a.jpg"])
    assert found.face is not None
    face = found.face
    assert overlap((face.x, face.y, face.w, face.h), placed(900, 300)) > 0.6


def odd_photos(portrait: Image.Image) -> dict[str, tuple[Image.Image, list[Box]]]:
    """Photos that a detector stumbles over, and where their faces are."""
    large = Image.new("RGB", (5472, 3648), (90, 120, 150))  # 20 megapixels
    large.paste(portrait.resize((1024, 1024)), (3000, 1200))
    cut = portrait.crop((225, 0, 512, 512))  # half of the face lies beyond the border
    tiny = Image.new("RGB", (1280, 1280), (90, 120, 150))
    tiny.paste(portrait.resize((40, 40)), (600, 600))
    crowd = Image.new("RGB", (2560, 1600), (90, 120, 150))
    boxes = []
    head = portrait.crop((160, 40, 290, 200))
    for top in range(0, 1600, 160):
        for left in range(0, 2560, 128):
            crowd.paste(head.resize((124, 152)), (left, top))
            boxes.append((left + 19, top + 23, 86, 106))
    return {
        "large.jpg": (large, [placed(3000, 1200, 2.0)]),
        "cut.jpg": (cut, []),
        "tiny.jpg": (tiny, []),
        "crowd.jpg": (crowd, boxes),
        "strip.png": (Image.new("RGB", (1, 5000), (200, 0, 0)), []),
        "flat.png": (Image.new("RGB", (5000, 1), (200, 0, 0)), []),
    }


def test_odd_photos_are_answered_at_the_right_places(
    tmp_path: Path, portrait: Image.Image, run: Run, rows: Rows
) -> None:
    """20 megapixels, a face cut by the border, a tiny one, 200 in one photo, strips of one pixel, an animation."""
    (tmp_path / "photos").mkdir()
    odd = odd_photos(portrait)
    for name, (image, _) in odd.items():
        image.save(tmp_path / "photos" / name, quality=95)
    blank = Image.new("RGB", portrait.size, (90, 120, 150))
    portrait.save(tmp_path / "photos" / "moving.gif", save_all=True, append_images=[blank, blank], duration=100)
    run(tmp_path, "--strict")
    found = by_photo(rows(tmp_path / "o.csv"))
    assert {name: len(faces) for name, faces in found.items() if faces[0]["face"] == "0"} == {
        "flat.png": 1,
        "strip.png": 1,
        "tiny.jpg": 1,
    }
    for name, (image, boxes) in odd.items():
        places = [box_of(row) for row in found[name] if row["face"] != "0"]
        assert all(x + w <= image.width and y + h <= image.height for x, y, w, h in places)
        hits = sum(any(overlap(box, place) > 0.5 for place in places) for box in boxes)
        assert hits >= 0.9 * len(boxes), (name, hits, len(boxes))
    assert overlap(box_of(found["moving.gif"][0]), placed(0, 0)) > 0.6


# --- options ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", [("--min-face", "30"), ("--max-faces", "1"), ("--face-model", "x.onnx")])
def test_options_of_faces_need_faces(tmp_path: Path, run_gendercls: Run, option: tuple[str, str]) -> None:
    """An option that would do nothing is an error."""
    done = run_gendercls("classify", tmp_path, "--out", tmp_path / "o.csv", *option)
    assert done.returncode == 2
    assert done.stderr == (
        f"Error: {option[0]} needs --faces\n  where: {' '.join(option)}\n  do:    add --faces, or leave it out\n"
    )


@pytest.mark.parametrize("option", ["--min-face", "--max-faces"])
def test_numbers_of_faces_begin_at_one(finished: Path, run: Run, option: str) -> None:
    """Neither no pixels nor no faces."""
    done = run(finished, "--force", option, "0", status=2)
    assert done.stderr.endswith(f"is 0\n  where: {option}\n  do:    give a number of 1 or more\n")
