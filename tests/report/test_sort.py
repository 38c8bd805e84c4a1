"""``gendercls sort``: what is made and where, that nothing is replaced, and that all of it can be taken back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from gendercls.errors import GenderclsError, InterruptedRunError, OutputError
from gendercls.report.sort import Sorted, SortOptions, sort
from gendercls.report.sorted_list import UNFINISHED, undo

Run = Callable[..., subprocess.CompletedProcess[str]]

ROWS = (
    "1.jpg,female,0.900000,0.900000,0.100000,",
    "2.jpg,male,0.900000,0.100000,0.900000,",
    "3.jpg,uncertain,0.510000,0.490000,0.510000,",
    "a/1.jpg,male,0.900000,0.100000,0.900000,",
    "a/b/5.jpg,,,,,damaged photo: broken",
    "notes.txt,,,,,not a photo",
)
HEADER = "path,label,confidence,p_female,p_male,error"
MADE = ["failed/a/b/5.jpg", "female/1.jpg", "male/2.jpg", "male/a/1.jpg", "uncertain/3.jpg"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ``photos`` and a CSV of them."""
    for row in ROWS:
        make(tmp_path / "photos" / row.partition(",")[0])
    write(tmp_path, ROWS)
    return tmp_path


def make(path: Path) -> None:
    """A file of a content of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"photo {path}")


def write(folder: Path, rows: Iterable[str], header: str = HEADER) -> None:
    (folder / "preds.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def run(folder: Path, **options: Any) -> Sorted:
    plain = {"preds": folder / "preds.csv", "into": folder / "into", "photos": folder / "photos"}
    return sort(SortOptions(**plain | options), lambda done, total: None)


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(GenderclsError) as caught:
        run(folder, **options)
    return str(caught.value)


def below(folder: Path) -> list[str]:
    """Every file and link, but for the list."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    return sorted(name for name in found if name != "sorted.csv")


def state(folder: Path) -> dict[str, tuple[str, int]]:
    return {name: ((folder / name).read_text(), (folder / name).stat().st_mtime_ns) for name in below(folder)}


# --- what goes where ---------------------------------------------------------------------------------------------


def test_each_photo_is_linked_below_its_class(folder: Path) -> None:
    """Folders of the photos are kept, so that two of one name do not meet; what is no photo is left out."""
    before = state(folder / "photos")
    found = run(folder)
    assert below(folder / "into") == MADE
    for made in MADE:
        photo = folder / "photos" / made.partition("/")[2]
        assert os.readlink(folder / "into" / made) == str(photo)
    assert found.folders == {"female": 1, "male": 2, "uncertain": 1, "failed": 1}
    assert (found.made, found.there, found.not_photos, found.missing) == (5, 0, 1, ())
    assert state(folder / "photos") == before


def test_copies_are_whole_and_keep_their_times(folder: Path) -> None:
    """With ``--copy`` each is a file of its own, of the same content and time."""
    run(folder, kind="copy")
    assert below(folder / "into") == MADE
    for made in MADE:
        copy, photo = folder / "into" / made, folder / "photos" / made.partition("/")[2]
        assert not copy.is_symlink()
        assert not copy.samefile(photo)
        assert copy.read_bytes() == photo.read_bytes()
        assert copy.stat().st_mtime_ns == photo.stat().st_mtime_ns


def test_a_photo_of_faces_that_disagree_goes_to_none_of_them(folder: Path) -> None:
    """Faces of one label: there; of several: ``several``; none: ``no-face``; one that failed: ``failed``."""
    header = "path,face,x,y,w,h,face_confidence,label,confidence,p_female,p_male,error"
    answer = {"female": "female,0.9,0.9,0.1,", "male": "male,0.9,0.1,0.9,", "failed": ",,,,the model fails on it"}
    photos = {"1.jpg": ["male", "male"], "2.jpg": ["female", "male"], "3.jpg": ["female", "failed"]}
    rows = [
        f"{path},{number},{number},0,9,9,0.9,{answer[label]}"
        for path, labels in photos.items()
        for number, label in enumerate(labels, start=1)
    ]
    write(folder, [*rows, "a/1.jpg,0,,,,,,no face,,,,"], header)
    run(folder)
    assert below(folder / "into") == ["failed/3.jpg", "male/1.jpg", "no-face/a/1.jpg", "several/2.jpg"]


def test_attributes_that_are_independent_have_a_folder_each(folder: Path) -> None:
    """A photo is in all of those that its label names, or in ``none``."""
    header = "path,label,confidence,p_Smiling,p_Young,error"
    write(folder, ["1.jpg,Smiling Young,0.81,0.9,0.9,", "2.jpg,none,0.81,0.1,0.1,", "3.jpg,Young,0.8,0.1,0.9,"], header)
    run(folder)
    assert below(folder / "into") == ["Smiling/1.jpg", "Young/1.jpg", "Young/3.jpg", "none/2.jpg"]


def test_names_are_bytes(folder: Path) -> None:
    r"""A name that is not UTF-8, and one that looks as such a name is written: each links to its own photo."""
    places = [os.path.join(os.fsencode(folder / "photos"), name) for name in (b"caf\xe9.jpg", b"c\\xe9.jpg", b"=x.jpg")]
    for place in places:
        Path(os.fsdecode(place)).write_bytes(place)
    answer = "male,0.900000,0.100000,0.900000,"
    write(folder, [f"{name},{answer}" for name in ("caf\\xe9.jpg", "c\\xe9.jpg", "./=x.jpg")])
    run(folder)
    into = os.path.join(os.fsencode(folder), b"into", b"male")
    assert sorted(os.listdir(into)) == [b"=x.jpg", b"c\\xe9.jpg", b"caf\xe9.jpg"]
    assert {os.readlink(os.path.join(into, name)) for name in os.listdir(into)} == set(places)
    assert undo(folder / "into" / "sorted.csv").removed == 3
    assert not (folder / "into").exists()


def test_a_run_over_several_folders(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths begin with the arguments as typed; so do the folders within each class, without what leads upwards."""
    (folder / "work").mkdir()
    monkeypatch.chdir(folder / "work")
    answer = "male,0.900000,0.100000,0.900000,"
    write(folder, [f"../photos/1.jpg,{answer}", f"../photos/a/1.jpg,{answer}", f"{folder}/photos/2.jpg,{answer}"])
    record = {"inputs": ["../photos/1.jpg", "../photos/a"], "model": {"file": "m", "sha256": "m"}, "versions": {}}
    record["options"] = {"device": "cpu", "precision": "fp32", "confidence_threshold": 0.0}
    (folder / "preds.csv.run.json").write_text(json.dumps(record))
    run(folder, photos=None)
    above = str(folder)[1:]
    assert below(folder / "into") == sorted(f"male/{above}/photos/{name}" for name in ("1.jpg", "2.jpg", "a/1.jpg"))


def test_photos_that_are_gone_are_counted(folder: Path) -> None:
    """The others are sorted; where none is there nothing is made, and the message says what to name."""
    (folder / "photos" / "2.jpg").unlink()
    found = run(folder)
    assert (found.made, found.missing) == (4, ("2.jpg",))
    assert refusal(folder, photos=folder / "photos" / "a" / "b") == (
        f"none of the photos is there\n  where: 1.jpg, below {folder}/photos/a/b\n"
        "  do:    name the folder that the photos are below: --photos DIR; "
        "what lies in archives or stores is not sorted"
    )


# --- nothing is replaced -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "copy"])
def test_the_same_again_makes_nothing(folder: Path, kind: str) -> None:
    """What is there already is left as it is, and can still be taken back."""
    run(folder, kind=kind)
    before, listed = state(folder / "into"), (folder / "into" / "sorted.csv").read_text()
    found = run(folder, kind=kind)
    assert (found.made, found.there) == (0, 5)
    assert state(folder / "into") == before
    assert (folder / "into" / "sorted.csv").read_text() == listed


@pytest.mark.parametrize("kind", ["link", "copy"])
@pytest.mark.parametrize("what", ["file", "other link", "folder link", "folder is a file", "dead link"])
def test_a_name_that_is_taken_stops_it_before_anything_is_made(folder: Path, kind: str, what: str) -> None:
    """Another file or link of that name, or a folder that is none: named, and left as it is."""
    into, place = folder / "into", folder / "into" / "male" / "a" / "1.jpg"
    make(folder / "elsewhere" / "x")
    if what.startswith("folder"):
        place = place.parent
    place.parent.mkdir(parents=True)
    match what:
        case "file" | "folder is a file":
            make(place)
        case "other link" | "dead link":
            place.symlink_to(folder / ("elsewhere/x" if what == "other link" else "nowhere"))
        case "folder link":
            place.symlink_to(folder / "elsewhere")
    assert refusal(folder, kind=kind) == (
        f"the name is taken by something else, and nothing is replaced\n  where: {place}\n"
        "  do:    choose another --into, or take back what an earlier run made: gendercls sort --undo"
    )
    assert [path for path in into.rglob("*") if not path.is_dir() or path.is_symlink()] == [place]
    assert below(folder / "elsewhere") == ["x"]


def test_two_photos_of_one_name_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which can only be where one lies above the place that the paths are below."""
    root = folder / "photos"
    make(folder / "photos" / str(root)[1:] / "1.jpg")
    answer = "male,0.900000,0.100000,0.900000,"
    monkeypatch.chdir(folder)
    make(Path("/".join(["x", str(folder)[1:], "1.jpg"])))
    make(folder / "1.jpg")
    write(folder, [f"{folder}/1.jpg,{answer}", f"{str(folder)[1:]}/1.jpg,{answer}"])
    assert refusal(folder, photos=folder / "x") == (
        "two photos would get the same name\n"
        f"  where: {folder}/1.jpg and {folder}/x{folder}/1.jpg\n"
        "  do:    classify and sort them in two runs"
    )
    assert not (folder / "into").exists()


def test_among_the_photos_nothing_is_made(folder: Path) -> None:
    """The next run over them would classify the links too."""
    for into in (folder / "photos", folder / "photos" / "a" / "sorted"):
        assert refusal(folder, into=into) == (
            "the folder lies among the photos, so that they would be classified twice\n"
            f"  where: --into {into}\n  do:    name one outside of them"
        )
    run(folder, into=folder / "photos-sorted")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "several", "failed"])
def test_a_class_that_is_no_folder_s_name_is_refused(folder: Path, name: str) -> None:
    """A CSV's header may hold anything: nothing is made outside of the folder, nor two kinds into one."""
    write(folder, [f"1.jpg,{name},0.900000,0.900000,0.100000,"], HEADER.replace("female", name))
    assert refusal(folder) == (
        f"no folder can be made for the class {name!r}: its name is taken, hidden or a path\n"
        f"  where: {folder}/preds.csv\n"
        "  do:    sort these photos by hand; gendercls train takes other names of classes"
    )


def test_a_name_that_is_taken_meanwhile_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that appears under a copy's name while it is made stays what it is."""
    place = folder / "into" / "female" / "1.jpg"

    def taken(source: bytes, unfinished: bytes) -> None:
        Path(os.fsdecode(unfinished)).write_text("whole")
        place.write_text("mine")

    monkeypatch.setattr("gendercls.report.sort.shutil.copy2", taken)
    assert refusal(folder, kind="copy").startswith(
        f"it cannot be made: meanwhile its name was taken\n  where: {place}\n"
    )
    assert place.read_text() == "mine"
    assert below(folder / "into") == ["female/1.jpg"]


def test_the_name_of_an_unfinished_copy_leads_nowhere(folder: Path) -> None:
    """A link of that name is removed, and what it leads to is not written to."""
    make(folder / "elsewhere" / "x")
    before = state(folder / "elsewhere")
    (folder / "into").mkdir()
    (folder / "into" / UNFINISHED).symlink_to(folder / "elsewhere" / "x")
    run(folder, kind="copy")
    assert state(folder / "elsewhere") == before
    assert below(folder / "into") == MADE


# --- undo --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "copy"])
def test_undo_removes_just_what_was_made(folder: Path, kind: str) -> None:
    """Links or copies, the folders that are empty then, the list; the photos and what others made stay."""
    before = state(folder / "photos")
    run(folder, kind=kind)
    make(folder / "into" / "male" / "mine.txt")
    found = undo(folder / "into" / "sorted.csv")
    assert (found.removed, found.gone, found.kept) == (5, 0, ())
    assert sorted(path.name for path in (folder / "into").rglob("*")) == ["male", "mine.txt"]
    assert state(folder / "photos") == before


def test_undo_keeps_what_is_no_longer_what_was_made(folder: Path) -> None:
    """A copy that was changed, and the last one there is of a photo; they stay in the list, for when they are."""
    run(folder, kind="copy")
    into = folder / "into"
    (into / "male" / "2.jpg").write_text("edited")
    (folder / "photos" / "a" / "1.jpg").unlink()
    (into / "female" / "1.jpg").unlink()
    os.link(folder / "photos" / "1.jpg", into / "female" / "1.jpg")  # the photo itself
    (into / "uncertain" / "3.jpg").unlink()
    found = undo(into / "sorted.csv")
    assert (found.removed, found.gone) == (1, 1)
    assert found.kept == ("female/1.jpg", "male/2.jpg", "male/a/1.jpg")
    assert below(into) == sorted(found.kept)
    assert [line.split(",")[0] for line in (into / "sorted.csv").read_text().splitlines()[1:]] == [*found.kept]
    shutil.copy(into / "male" / "a" / "1.jpg", folder / "photos" / "a")
    assert undo(into / "sorted.csv").kept == ("female/1.jpg", "male/2.jpg")


def test_undo_compares_contents(folder: Path) -> None:
    """A copy that was edited stays, though its size and its time are those of its photo; so does a link to a copy."""
    run(folder, kind="copy")
    into = folder / "into"
    copy, photo = into / "male" / "2.jpg", folder / "photos" / "2.jpg"
    copy.write_text(photo.read_text().upper())
    os.utime(copy, ns=(photo.stat().st_atime_ns, photo.stat().st_mtime_ns))
    (into / "female" / "1.jpg").rename(folder / "copy.jpg")
    (into / "female" / "1.jpg").symlink_to(folder / "copy.jpg")
    assert undo(into / "sorted.csv").kept == ("female/1.jpg", "male/2.jpg")
    assert below(into) == ["female/1.jpg", "male/2.jpg"]


def test_undo_keeps_a_link_that_leads_elsewhere(folder: Path) -> None:
    """And one that was there before; a photo that is gone keeps no link."""
    into = folder / "into"
    (into / "female").mkdir(parents=True)
    (into / "female" / "1.jpg").symlink_to(folder / "photos" / "1.jpg")
    run(folder)
    (into / "male" / "2.jpg").unlink()
    (into / "male" / "2.jpg").symlink_to("/nowhere")
    (folder / "photos" / "3.jpg").unlink()
    found = undo(into / "sorted.csv")
    assert (found.removed, found.kept) == (3, ("male/2.jpg",))
    assert below(into) == ["female/1.jpg", "male/2.jpg"]


def test_undo_reaches_through_no_link(folder: Path) -> None:
    """Where a folder of a class was replaced by a link, what lies there is not what was made."""
    run(folder)
    (folder / "into" / "male").rename(folder / "moved")
    (folder / "into" / "male").symlink_to(folder / "moved")
    found = undo(folder / "into" / "sorted.csv")
    assert found.kept == ("male/2.jpg", "male/a/1.jpg")
    assert below(folder / "moved") == ["2.jpg", "a/1.jpg"]


@pytest.mark.parametrize("made", ["../photos/1.jpg", "/etc/passwd", "male/../../photos/1.jpg"])
def test_a_list_of_things_elsewhere_is_refused(folder: Path, made: str) -> None:
    """Nothing outside of the list's own folder is ever removed."""
    run(folder)
    path = folder / "into" / "sorted.csv"
    with path.open("a") as file:
        file.write(f"{made},{folder}/photos/2.jpg,copy\n")
    with pytest.raises(OutputError, match=rf"^the list is damaged\n  where: {path}, at {made},"):
        undo(path)
    assert below(folder / "into") == MADE


def test_what_is_no_list_is_refused(folder: Path) -> None:
    """The CSV of predictions itself, or nothing."""
    with pytest.raises(OutputError, match=r"^this is no list of what gendercls sort made\n"):
        undo(folder / "preds.csv")
    with pytest.raises(GenderclsError, match=r"^there is no such list\n"):
        undo(folder / "sorted.csv")


# --- interruptions -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["link", "copy"])
def test_what_was_interrupted_goes_on_and_can_be_taken_back(folder: Path, kind: str) -> None:
    """After two of five, with half a copy left by a kill: the same command makes the rest, undo removes all."""

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    options = SortOptions(folder / "preds.csv", folder / "into", folder / "photos", kind)
    with pytest.raises(InterruptedRunError, match=r"^interrupted after 2 of 5 files\n"):
        sort(options, stop)
    assert len(below(folder / "into")) == 2
    (folder / "into" / UNFINISHED).write_text("ph")
    before = shutil.copytree(folder / "into", folder / "again", symlinks=True)
    found = run(folder, kind=kind)
    assert (found.made, found.there) == (3, 2)
    assert set(MADE) <= set(below(folder / "into"))
    for place, total in ((before, 2), (folder / "into", 5)):
        assert undo(place / "sorted.csv").removed == total
        assert not place.exists()


def test_a_copy_that_fails_leaves_no_half(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: what is there is whole, and the message says to repeat."""

    def fill(source: bytes, place: bytes) -> None:
        Path(os.fsdecode(place)).write_text("ph")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gendercls.report.sort.shutil.copy2", fill)
    assert refusal(folder, kind="copy") == (
        f"it cannot be made: No space left on device\n  where: {folder}/into/female/1.jpg\n"
        "  do:    free some disk or make the folder writable, and repeat the command, which goes on"
    )
    assert below(folder / "into") == []


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_on_real_photos(run_gendercls: Run, celeba: Path, null_model: Path, tmp_path: Path) -> None:
    """Classify, sort, undo as typed; ``--into`` is asked for where it is missing."""
    (tmp_path / "photos").mkdir()
    for number in range(1, 5):
        shutil.copy(celeba / "img_align_celeba" / f"{number:06}.jpg", tmp_path / "photos")
    typed = ("classify", "photos", "--out", "preds.csv", "--model", null_model, "--device", "cpu", "--quiet")
    run_gendercls(*typed, cwd=tmp_path).check_returncode()
    done = run_gendercls("sort", "preds.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: nobody said where the folders go\n  where: --into\n  do:    name a folder: --into DIR\n"
    )
    done = run_gendercls("sort", "preds.csv", "--into", "my sorted", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith(
        "links made below my sorted: 4\nto take them back: gendercls sort --undo 'my sorted/sorted.csv'\n"
    )
    assert len(below(tmp_path / "my sorted")) == 4
    done = run_gendercls("sort", "--undo", "my sorted/sorted.csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "removed: 4\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "preds.csv", "preds.csv.run.json"]
    assert not re.search("Traceback", done.stderr)
