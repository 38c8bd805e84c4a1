"""``gendercls sample``: a page that is driven by keys in a real browser, and the labels.csv that it gives."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gendercls.answers import answers_for
from gendercls.errors import GenderclsError
from gendercls.labels import read_labels
from gendercls.labels.table import CLASS_COLUMN
from gendercls.report.measures import Measures
from gendercls.report.run import ReportOptions, report
from gendercls.report.sheet import SampleOptions, SampleResult, sample
from gendercls.rows import Columns, Row, encode

Run = Callable[..., subprocess.CompletedProcess[str]]
Visit = Callable[..., Any]

PHOTOS, DRAWN = 40, 14
NASTY = b'="</script><script>alert(1)</script>,\xe9\n.jpg'
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def write_preds(path: Path, rows: list[Row], names: tuple[str, ...] = ("female", "male"), **columns: bool) -> Path:
    """A preds.csv of those rows, whose photos lie beside it."""
    layout = Columns(answers_for(False, names), has_truth=False, **columns)
    path.write_bytes(encode(layout.header()) + b"".join(encode(layout.fields(row)) for row in rows))
    return path


def answer(path: str, second: float, names: tuple[str, ...] = ("female", "male"), face: tuple[str, ...] = ()) -> Row:
    """What classify says of a photo whose second class has that probability."""
    shares = (f"{1 - second:.6f}", f"{second:.6f}")
    return Row(path, names[int(second > 0.5)], max(shares), shares, face=face)


@pytest.fixture(scope="module")
def preds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A preds.csv of 40 photos with an answer, and of two files without."""
    folder = tmp_path_factory.mktemp("sheet")
    seconds = np.random.default_rng(1).beta(0.4, 0.4, PHOTOS).round(6)
    rows = [answer(f"{number:02}.jpg", second) for number, second in enumerate(seconds)]
    for number, row in enumerate(rows):
        Image.new("RGB", (90, 60), (number, 0, 0)).save(folder / row.path)
    rows += [Row("a.txt", "", "", (), error="not a photo"), Row("b.jpg", "", "", (), error="empty file")]
    return write_preds(folder / "preds.csv", rows)


def written(preds: Path, out: Path, **options: Any) -> SampleResult:
    plain = {"photos": preds.parent, "count": DRAWN, **options}
    return sample(SampleOptions(preds=preds, out=out, **plain), lambda line: None)


def content_of(page: Path) -> dict[str, Any]:
    """What the page's script reads."""
    (found,) = re.findall(r'<script type="application/json" id="sheet">(.*?)</script>', page.read_text("utf-8"))
    return json.loads(found)


def pressed(shown: Any, keys: str) -> None:
    for key in keys:
        shown.page.keyboard.press(key)


def saved(shown: Any, to: Path) -> Path:
    """The file that the button gives, under the name that it gives it."""
    with shown.page.expect_download() as download:
        shown.page.click("#save")
    path = to / download.value.suggested_filename
    download.value.save_as(path)
    return path


def measured(preds: Path, labels: Path) -> Measures:
    """What ``gendercls report`` makes of them."""
    measures = report(ReportOptions(preds, labels, labels.with_suffix(".html")), lambda line: None).measures
    assert measures is not None
    return measures


def refusal(preds: Path, out: Path, **options: Any) -> str:
    with pytest.raises(GenderclsError) as caught:
        written(preds, out, **options)
    return str(caught.value)


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_did_and_what_to_do(run_gendercls: Run, preds: Path, tmp_path: Path) -> None:
    """First that photos will be inside; then how many rows, how large the page is, and the next command."""
    done = run_gendercls("sample", preds, "--photos", preds.parent, "--n", DRAWN, "--out", "sheet.html", cwd=tmp_path)
    size = (tmp_path / "sheet.html").stat().st_size
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        "the page will hold 14 photos themselves: give it only to those who may see them",
        "drawn: 14 of 40 rows with an answer, in 2 strata; 2 rows without one left out",
        f"page: sheet.html ({size / 1e3:,.0f} kB)",
        f"next: open it in a browser, label, save labels.csv, then gendercls report {preds} --labels labels.csv",
    ]
    again = run_gendercls("sample", preds, "--photos", preds.parent, "--out", "sheet.html", cwd=tmp_path)
    assert (again.returncode, again.stderr) == (
        1,
        "Error: the output already exists\n  where: sheet.html\n"
        "  do:    choose another --out, or repeat with --force to replace it\n",
    )


def test_the_same_command_gives_the_same_page(preds: Path, tmp_path: Path) -> None:
    """Byte for byte; another seed gives another one."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        written(preds, tmp_path / name, seed=seed)
    pages = [(tmp_path / name).read_bytes() for name in "abc"]
    assert pages[0] == pages[1] != pages[2]


def test_what_no_sheet_can_be_made_of_is_refused(preds: Path, tmp_path: Path) -> None:
    """Independent attributes, photos that are not there, no answers: each in one message, and no page is left."""
    out, here = tmp_path / "sheet.html", tmp_path / "preds.csv"
    here.write_text("path,label,confidence,p_Male,p_Young,error\na.jpg,Male,0.720000,0.900000,0.200000,\n")
    assert refusal(here, out) == (
        "a sheet asks for one class of each photo, and these answers are attributes that do not exclude another\n"
        f"  where: {here}\n"
        "  do:    classify with a model whose classes do; attributes are scored with labels that have all of them"
    )
    shutil.copy(preds, here)
    written(preds, tmp_path / "all.html")
    paths = [photo["key"].strip('"') for photo in content_of(tmp_path / "all.html")["photos"]][:3]
    assert refusal(here, out, photos=tmp_path) == (
        "14 of the 14 photos drawn can no longer be shown\n"
        + "\n".join(
            f"{'  where: ' if not place else ' ' * 9}{path}: cannot be read: No such file or directory"
            for place, path in enumerate(paths)
        )
        + "\n         …\n"
        "  do:    name their folder with --photos, put them back, or classify the photos again"
    )
    write_preds(here, [Row("b.jpg", "", "", (), error="empty file")])
    assert refusal(here, out) == (
        f"no row has an answer, so there is none to draw\n  where: {here}\n  do:    classify photos that can be read"
    )
    assert not out.exists()


# --- the page ----------------------------------------------------------------------------------------------------


def test_keys_give_a_labels_csv(preds: Path, visit: Visit, tmp_path: Path) -> None:
    """A sheet labelled by keys alone, one answer mended on the way: the file has each label with its weight.

    ``report`` takes it, and Chromium says nothing and asks for nothing beside the pictures.
    """
    result = written(preds, tmp_path / "sheet.html")
    shown = visit(result.out)
    pressed(shown, "122n0")
    for key in ("Backspace", "ArrowLeft", "1", "ArrowRight"):  # the fourth was n and is now 1, the fifth stays 0
        shown.page.keyboard.press(key)
    pressed(shown, "12" * 4 + "1")
    assert shown.page.inner_text("#where") == "14 of 14 labelled"
    path = saved(shown, tmp_path)
    assert path.name == "labels.csv"
    words = ["female", "male", "male", "female", "undetermined", *["female", "male"] * 4, "female"]
    photos = content_of(result.out)["photos"]
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["truth"] for row in rows] == words
    assert [row["path"] for row in rows] == [next(csv.reader(io.StringIO(photo["key"])))[0] for photo in photos]
    assert [int(row["stratum"]) - 1 for row in rows] == [photo["stratum"] for photo in photos]
    labels = read_labels(path)
    assert labels.columns[CLASS_COLUMN].tolist() == words
    assert labels.weight is not None
    assert labels.weight.sum() == pytest.approx(PHOTOS)
    measures = measured(preds, path)
    assert (measures.answered, measures.hand_labels, measures.undetermined) == (PHOTOS, DRAWN, 1)
    assert measures.shares[0].by_hand is not None
    assert shown.said == []
    assert [address for address in shown.requested if not address.startswith(("data:image/webp", "blob:"))] == []


def test_progress_is_kept_by_the_browser(preds: Path, visit: Visit, tmp_path: Path) -> None:
    """A page that is opened again goes on where it was; another sheet begins at its beginning."""
    shown = visit(written(preds, tmp_path / "sheet.html").out)
    pressed(shown, "12n1")
    before = shown.page.get_attribute("#photo", "src")
    shown.page.reload()
    assert shown.page.inner_text("#where") == "Photo 5 of 14, 10 to label"
    assert shown.page.get_attribute("#photo", "src") == before
    shown.page.keyboard.press("Backspace")
    assert shown.page.inner_text('button[aria-pressed="true"] span') == "female"
    shown.page.goto(written(preds, tmp_path / "other.html", seed=2).out.as_uri())
    assert shown.page.inner_text("#where") == "Photo 1 of 14, 14 to label"


def test_a_browser_that_keeps_nothing_is_told_of(preds: Path, visit: Visit, tmp_path: Path) -> None:
    """Where the browser refuses to store, the page says so, works, and asks before it is closed unsaved."""
    shown = visit(written(preds, tmp_path / "sheet.html").out)
    shown.page.evaluate("void (Storage.prototype.setItem = () => { throw new Error('full'); })")
    pressed(shown, "1")
    assert shown.page.inner_text("#said") == (
        "This browser does not keep your progress: do not close the page before you have saved."
    )
    assert shown.page.inner_text("#where") == "Photo 2 of 14, 13 to label"
    assert shown.page.evaluate("dispatchEvent(new Event('beforeunload', { cancelable: true }))") is False
    pressed(shown, "1" * 13)
    saved(shown, tmp_path)
    assert shown.page.evaluate("dispatchEvent(new Event('beforeunload', { cancelable: true }))") is True


def test_an_unfinished_sheet_has_weights_of_its_own(preds: Path, visit: Visit, tmp_path: Path) -> None:
    """It is not saved before two of each stratum are labelled; then its weights stand for all rows too."""
    result = written(preds, tmp_path / "sheet.html")
    strata = [photo["stratum"] for photo in content_of(result.out)["photos"]]
    fewest = next(n for n in range(1, DRAWN) if min(strata[:n].count(number) for number in set(strata)) == 2)
    shown = visit(result.out)
    pressed(shown, "1" * (fewest - 1))
    shown.page.click("#save")
    assert shown.page.inner_text("#said") == (
        "Too early: label 1 more. Until then some kinds of photos have too few labels to stand for the rest."
    )
    pressed(shown, "2")
    labels = read_labels(saved(shown, tmp_path))
    assert shown.page.inner_text("#said") == (
        f"Saved {fewest} of 14 labels as labels.csv, where your downloads are. "
        "Their weights count in that the sheet is not finished."
    )
    assert len(labels) == fewest
    assert labels.weight is not None
    assert labels.weight.sum() == pytest.approx(PHOTOS)


def test_a_key_that_is_held_is_one_answer(preds: Path, visit: Visit, tmp_path: Path) -> None:
    """Neither a digit nor Enter on a button answers for photos that nobody saw; with Ctrl a key is the browser's."""
    shown = visit(written(preds, tmp_path / "sheet.html").out)
    for _ in range(5):
        shown.page.keyboard.down("1")
    shown.page.keyboard.up("1")
    shown.page.focus("#choices button")
    for _ in range(5):
        shown.page.keyboard.down("Enter")
    shown.page.keyboard.up("Enter")
    shown.page.keyboard.press("Control+2")
    assert shown.page.inner_text("#where") == "Photo 3 of 14, 12 to label"


def test_a_sheet_is_blind(preds: Path, visit: Visit, tmp_path: Path) -> None:
    """The page has no answer of the model, and no confidence; ``--show-answers`` shows them, and the file says so."""
    blind, seeing = tmp_path / "blind.html", tmp_path / "seeing.html"
    written(preds, blind)
    result = written(preds, seeing, show_answers=True)
    assert {key for photo in content_of(blind)["photos"] for key in photo} == {"key", "stratum", "picture"}
    strata = [photo["stratum"] for photo in content_of(blind)["photos"]]
    assert list(dict.fromkeys(strata)) == [*range(len(set(strata)))]  # in the order in which they come up
    shown = visit(blind)
    assert not shown.page.is_visible("#answer")
    assert "is not shown and not in this page" in shown.page.inner_text("#how")
    shown = visit(seeing)
    path = content_of(seeing)["photos"][0]["key"]
    (row,) = (line for line in preds.read_text(encoding="utf-8").splitlines() if line.startswith(path))
    label, confidence = row.removeprefix(path).split(",")[1:3]
    assert shown.page.inner_text("#answer") == f"The model says: {label}, {100 * float(confidence):.1f} %"
    assert "these labels are not blind" in shown.page.inner_text("#how")
    pressed(shown, "1" * DRAWN)
    assert saved(shown, tmp_path).name == result.labels_name == "labels-not-blind.csv"


def test_it_is_labelled_on_a_phone(preds: Path, visit: Visit, tmp_path: Path) -> None:
    """By touch: after the first answer all of it is on the screen, nothing is wider, and no button is too small."""
    shown = visit(written(preds, tmp_path / "sheet.html").out, **PHONE)
    shown.page.tap("#choices button:nth-child(2)")
    assert shown.page.inner_text("#where") == "Photo 2 of 14, 13 to label"
    root = shown.page.locator(":root")
    assert root.evaluate("root => [root.scrollWidth, root.scrollHeight]") == [390, 844]
    boxes = [button.bounding_box() for button in shown.page.query_selector_all("button")]
    assert len(boxes) == 6
    assert min(box["height"] for box in boxes) >= 44
    shown.page.tap("#back")
    assert shown.page.inner_text('button[aria-pressed="true"] span') == "male"


def test_a_screen_reader_hears_the_number(preds: Path, visit: Visit, tmp_path: Path) -> None:
    """A new photo is announced by its number and not its name, buttons have their words, and focus is not lost."""
    shown = visit(written(preds, tmp_path / "sheet.html").out)
    assert shown.page.get_by_role("status").first.inner_text() == "Photo 1 of 14, 14 to label"
    assert shown.page.get_by_role("group", name="Your answer").get_by_role("button").count() == 3
    shown.page.get_by_role("button", name="not determinable", exact=True).click()
    assert shown.page.get_by_role("img", name="Photo 2", exact=True).count() == 1
    pressed(shown, "1" * 13)
    assert shown.page.evaluate("document.activeElement.id") == "save"


def test_names_of_strangers_stay_text(visit: Visit, tmp_path: Path) -> None:
    """A photo's or a class's name is no markup and no formula; many classes have keys: digits, then letters but n."""
    names = ("<img/src=x/onerror=alert(2)>", "=1+1", *(f"c{number}" for number in range(3, 24)))
    photo = tmp_path / os.fsdecode(NASTY)
    photo.parent.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(photo, "JPEG")
    path, shares = NASTY.decode("utf-8", "backslashreplace"), ("0.000000", "1.000000", *["0.000000"] * 21)
    preds = write_preds(tmp_path / "preds.csv", [Row(path, "=1+1", "1.000000", shares)], names)
    shown = visit(written(preds, tmp_path / "sheet.html").out)
    keys = [key.inner_text() for key in shown.page.query_selector_all("#choices kbd")]
    assert keys == [*"123456789abcdefghijklmo0"]
    assert shown.page.query_selector_all("#choices img") == []
    shown.page.keyboard.press("2")
    with saved(shown, tmp_path).open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["path", "truth", "weight", "stratum"], [f"./{path}", "'=1+1", "1", "1"]]
    assert shown.said == []


def test_a_script_that_is_not_the_pages_own_does_not_run(preds: Path, visit: Visit, tmp_path: Path) -> None:
    """Its policy holds against what would get in: an inline script, a handler, a picture from elsewhere."""
    page = written(preds, tmp_path / "sheet.html").out
    bad = "<script>alert(1)</script><img src='http://127.0.0.1/x' onerror='alert(2)'>"
    page.write_text(page.read_text("utf-8").replace("<h1>", f"{bad}<h1>"), "utf-8")
    shown = visit(page)
    pressed(shown, "1")
    assert shown.page.inner_text("#where") == "Photo 2 of 14, 13 to label"
    assert not {"1", "2"} & set(shown.said)
    assert sum("Content Security Policy" in line for line in shown.said) == 3


# --- faces -------------------------------------------------------------------------------------------------------


def test_a_face_is_shown_in_its_frame_and_saved_by_its_number(visit: Visit, tmp_path: Path) -> None:
    """Of two faces of a photo each has its picture, with the face in the frame, and a row with its number."""
    photo = Image.new("RGB", (400, 200), "white")
    photo.paste("red", (40, 60, 100, 120))
    photo.paste("blue", (250, 50, 330, 130))
    photo.save(tmp_path / "a.png")
    faces = [("1", "40", "60", "60", "60", "0.900000"), ("2", "250", "50", "80", "80", "0.900000")]
    rows = [answer("a.png", second, face=face) for second, face in zip((0.1, 0.9), faces, strict=True)]
    rows.append(Row("b.png", "no face", "", (), face=("0",)))
    preds = write_preds(tmp_path / "preds.csv", rows, has_faces=True)
    result = written(preds, tmp_path / "sheet.html")
    assert (result.drawn, result.left_out) == (2, 1)
    for found in content_of(result.out)["photos"]:
        picture = np.array(Image.open(io.BytesIO(base64.b64decode(found["picture"].partition(",")[2]))), np.int16)
        side, channel = (120, 0) if found["key"] == "a.png,1" else (160, 2)
        assert picture.shape == (side, side, 3)
        coloured = np.argwhere(picture[..., channel] - picture.min(axis=2) > 128)
        assert np.abs(coloured.min(axis=0) - side / 4).max() <= 1
        assert np.abs(coloured.max(axis=0) - 3 * side / 4).max() <= 2
    shown = visit(result.out, viewport={"width": 800, "height": 900})
    image, frame = (shown.page.locator(part).bounding_box() for part in ("#photo", "#frame rect:last-child"))
    side = min(image["width"], image["height"])
    assert frame["width"] == pytest.approx(side / 2, abs=3)
    assert frame["x"] + frame["width"] / 2 == pytest.approx(image["x"] + image["width"] / 2, abs=1)
    assert frame["y"] + frame["height"] / 2 == pytest.approx(image["y"] + image["height"] / 2, abs=1)
    pressed(shown, "12")
    path = saved(shown, tmp_path)
    assert measured(preds, path).hand_labels == 2
    lines = path.read_text().splitlines()
    assert lines[0] == "path,face,truth,weight,stratum"
    assert sorted(line.split(",")[:2] for line in lines[1:]) == [["a.png", "1"], ["a.png", "2"]]
