"""Label files as people have them, and what is said of broken ones."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gendercls.errors import LabelError
from gendercls.labels import Labels, read_labels


@pytest.fixture(scope="module")
def full(shared: Path) -> Labels:
    """The official labels of all CelebA photos."""
    return read_labels(shared / "celeba-full-labels")


def write(path: Path, text: str) -> Path:
    """The text as a file, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    """What reading says, with the test's folder cut off."""
    with pytest.raises(LabelError) as caught:
        read_labels(path)
    folder = path if path.is_dir() else path.parent
    return str(caught.value).replace(f"{folder}/", "").replace(str(folder), "FOLDER")


# --- CelebA -----------------------------------------------------------------------------------------------------


def test_celeba_is_read_whole(full: Labels) -> None:
    """All 202,599 photos, 40 attributes, the published split and 10,177 people, from gzipped files."""
    assert (len(full), len(full.flags), full.columns) == (202_599, 40, {})
    assert (full.keys[0], full.keys[-1]) == ("000001.jpg", "202599.jpg")
    assert int((full.flags["Male"] == 1).sum()) == 84_434
    assert set(np.unique(np.stack(list(full.flags.values())))) == {0, 1}
    assert full.split is not None
    assert full.identity is not None
    sizes = {part: int((full.split == part).sum()) for part in ("train", "val", "test")}
    assert sizes == {"train": 162_770, "val": 19_867, "test": 19_962}
    assert len(np.unique(full.identity)) == 10_177


def test_celeba_with_photos_beside_it(celeba: Path) -> None:
    """The 8,000 photos: root is their folder, the attributes are the file's, and notes tell what was taken."""
    labels = read_labels(celeba)
    assert labels.root == celeba / "img_align_celeba"
    assert labels.licence == "CelebA: non-commercial research only (Liu et al. 2015)"
    assert {name: int(labels.flags[name][0]) for name in ("Male", "Young", "Smiling", "Bald")} == {
        "Male": 0,
        "Young": 1,
        "Smiling": 1,
        "Bald": 0,
    }
    assert labels.identity is not None
    assert labels.identity[:3].tolist() == [2880, 2937, 8692]
    assert labels.notes == (
        f"40 attributes of 8,000 photos from {celeba}/list_attr_celeba.txt",
        f"the official split from {celeba}/list_eval_partition.txt",
        f"{len(np.unique(labels.identity)):,} identities from {celeba}/identity_CelebA.txt",
    )


def test_celeba_by_its_file_is_celeba_by_its_folder(celeba: Path) -> None:
    """Naming the attribute file gives the same labels as naming the folder."""
    by_file, by_folder = read_labels(celeba / "list_attr_celeba.txt"), read_labels(celeba)
    assert (by_file.keys, by_file.root, by_file.notes) == (by_folder.keys, by_folder.root, by_folder.notes)
    assert all(np.array_equal(by_file.flags[name], by_folder.flags[name]) for name in by_folder.flags)


ATTRIBUTES = "2\nMale Young \na.jpg -1  1\nb.jpg  1 -1\n"


def same_as_published(labels: Labels, root: Path) -> None:
    """The two made-up photos, whatever the layout."""
    assert (labels.root, labels.keys) == (root, ["a.jpg", "b.jpg"])
    assert {name: values.tolist() for name, values in labels.flags.items()} == {"Male": [0, 1], "Young": [1, 0]}
    assert labels.split is not None
    assert labels.split.tolist() == ["val", "test"]


def test_the_layout_of_the_official_download(tmp_path: Path) -> None:
    """``Anno/``, ``Eval/`` and ``Img/`` as the authors' drive has them; by the folder and by the file."""
    file = write(tmp_path / "Anno" / "list_attr_celeba.txt", ATTRIBUTES)
    write(tmp_path / "Eval" / "list_eval_partition.txt", "b.jpg 2\na.jpg 1\nc.jpg 0\n")
    write(tmp_path / "Anno" / "identity_CelebA.txt", "a.jpg 7\n")
    (tmp_path / "Img" / "img_align_celeba").mkdir(parents=True)
    for place in (tmp_path, file):
        labels = read_labels(place)
        same_as_published(labels, tmp_path / "Img" / "img_align_celeba")
        assert labels.identity is not None
        assert labels.identity.tolist() == [7, -1]


@pytest.mark.parametrize("packed", [False, True])
def test_the_layout_of_the_kaggle_download(tmp_path: Path, packed: bool) -> None:
    """CSV files beside ``img_align_celeba/img_align_celeba/``, the attribute file perhaps gzipped."""
    file = write(tmp_path / "list_attr_celeba.csv", "image_id,Male,Young\na.jpg,-1,1\nb.jpg,1,-1\n")
    write(tmp_path / "list_eval_partition.csv", "image_id,partition\na.jpg,1\nb.jpg,2\n")
    (tmp_path / "img_align_celeba" / "img_align_celeba").mkdir(parents=True)
    if packed:
        packed_file = tmp_path / "list_attr_celeba.csv.gz"
        packed_file.write_bytes(gzip.compress(file.read_bytes()))
        same_as_published(read_labels(packed_file), tmp_path / "img_align_celeba" / "img_align_celeba")
    same_as_published(read_labels(tmp_path), tmp_path / "img_align_celeba" / "img_align_celeba")


TAKE = "  do:    take the file as it is published"
VALUES = "a row should have 2 values of 1 or -1 after the file's name; this one has"
HEAD = "CelebA's attribute file begins with the number of photos and a line of attribute names; this one does not"
HEAD += "\n  where: list_attr_celeba.txt:1\n  do:    take list_attr_celeba.txt as it is published"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", HEAD, id="empty"),
        pytest.param("a.jpg 1 -1\nb.jpg 1 1\n", HEAD, id="no-header"),
        pytest.param("²\nMale Young\na.jpg 1 1\n", HEAD, id="a-number-that-is-none"),
        pytest.param(
            "3000\nMale Young\na.jpg 1 -1\nb.jpg 1",
            "the file promises 3,000 photos and has 2 rows\n  where: list_attr_celeba.txt\n"
            "  do:    the download may have been cut off; take it again",
            id="cut-off",
        ),
        pytest.param(
            "2\nMale Young\na.jpg 1 -1\n\nb.jpg 1 -1 1\n",
            f"{VALUES} 3\n  where: list_attr_celeba.txt:5\n{TAKE}",
            id="one-value-more",
        ),
        pytest.param(
            "2\nMale Young\na.jpg 1 -1 1\nb.jpg 1\n",
            f"{VALUES} 3\n  where: list_attr_celeba.txt:3\n{TAKE}",
            id="one-more-and-one-less",
        ),
        pytest.param("1\nMale Young\na.jpg\n", f"{VALUES} 0\n  where: list_attr_celeba.txt:3\n{TAKE}", id="no-values"),
        pytest.param(
            "2\nMale Young\na.jpg 1 -1\nb.jpg 1 255\n",
            f"the value '255' is neither 1 nor -1\n  where: list_attr_celeba.txt:4\n{TAKE}",
            id="too-large-for-a-byte",
        ),
        pytest.param(
            "2\nMale Young\na.jpg x 1\nb.jpg 1 1\n",
            f"the value 'x' is neither 1 nor -1\n  where: list_attr_celeba.txt:3\n{TAKE}",
            id="a-word",
        ),
        pytest.param(
            "2\nMale Young\na.jpg 1 -1\na.jpg 1 -1\n",
            "the photo 'a.jpg' has two rows\n  where: list_attr_celeba.txt\n  do:    keep one of them",
            id="twice",
        ),
    ],
)
def test_a_damaged_attribute_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """What is wrong with ``list_attr_celeba.txt`` is said with its line; nothing is read askew."""
    assert refusal(write(tmp_path / "list_attr_celeba.txt", text)) == message


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("list_eval_partition.txt", "b.jpg 3", "a row should be a file name and 0, 1 or 2; this one is 'b.jpg 3'"),
        ("list_eval_partition.txt", "b.jpg", "a row should be a file name and 0, 1 or 2; this one is 'b.jpg'"),
        ("identity_CelebA.txt", "b.jpg x7", "a row should be a file name and a number; this one is 'b.jpg x7'"),
        ("identity_CelebA.txt", "b.jpg ²", "a row should be a file name and a number; this one is 'b.jpg ²'"),
        ("identity_CelebA.txt", "b.jpg 1 2", "a row should be a file name and a number; this one is 'b.jpg 1 2'"),
    ],
)
def test_a_damaged_companion_is_refused(tmp_path: Path, name: str, row: str, message: str) -> None:
    """A bad row of the split or the identities is shown with its line."""
    write(tmp_path / "list_attr_celeba.txt", ATTRIBUTES)
    write(tmp_path / name, f"a.jpg 1\n{row}\n")
    assert refusal(tmp_path) == f"{message}\n  where: {name}:2\n{TAKE}"


@pytest.mark.parametrize(
    ("rows", "where", "what"),
    [
        ("a.jpg,1,-1\nb.jpg,1,2\n", ":3", "the value '2' of Young is neither 1 nor -1"),
        ("a.jpg,undetermined,-1\nb.jpg,maybe,1\n", ":3", "the value 'maybe' of Male is neither 1 nor -1"),
        ("a.jpg,1,\nb.jpg,1,\n", ":1", "the column 'Young' has no value at all"),
    ],
)
def test_a_damaged_kaggle_file_is_refused(tmp_path: Path, rows: str, where: str, what: str) -> None:
    """A value that is neither 1 nor -1 is named with its column and line, and so is a column without any."""
    file = write(tmp_path / "list_attr_celeba.csv", f"image_id,Male,Young\n{rows}")
    assert refusal(file) == f"{what}\n  where: list_attr_celeba.csv{where}\n{TAKE}"


# --- FairFace ---------------------------------------------------------------------------------------------------


def test_fairface_is_read_whole(fairface: Path) -> None:
    """40,000 train rows train; of the 2,500 val rows 1–1,250 validate and the rest test."""
    labels = read_labels(fairface)
    assert len(labels) == 42_500
    assert (labels.root, labels.licence) == (fairface, "FairFace: CC BY 4.0 (Kärkkäinen & Joo 2021)")
    assert labels.split is not None
    part = dict(zip(labels.keys, labels.split.tolist(), strict=True))
    places = ("train/1.jpg", "train/40000.webp", "val/1.jpg", "val/1250.jpg", "val/1251.jpg", "val/2500.jpg")
    assert [part[place] for place in places] == ["train", "train", "val", "val", "test", "test"]
    assert set(labels.columns) == {"age", "gender", "race"}
    assert [labels.columns[name][0] for name in ("age", "gender", "race")] == ["50-59", "Male", "East Asian"]
    assert labels.flags["service_test"][:2].tolist() == [1, 0]


def test_fairfaces_val_file_alone(fairface: Path) -> None:
    """One of FairFace's files alone is its rows alone."""
    labels = read_labels(fairface / "fairface_label_val.csv")
    assert (len(labels), labels.keys[0], labels.root) == (2_500, "val/1.jpg", fairface)
    assert labels.notes == (
        f"2,500 photos from {fairface}/fairface_label_val.csv: rows 1–1,250 validate, the rest test",
    )


def test_a_fairface_file_without_a_column_is_refused(tmp_path: Path) -> None:
    """A missing column is named, with those that are there."""
    file = write(tmp_path / "fairface_label_val.csv", "file,age,sex,race\nval/1.jpg,3-9,Male,Indian\n")
    assert refusal(file) == (
        f"the column 'gender' is missing\n  where: fairface_label_val.csv:1 has: file, age, sex, race\n{TAKE}"
    )


def test_fairface_files_that_disagree_are_refused(tmp_path: Path) -> None:
    """Two files with other columns, or columns in another order, are not poured together."""
    write(tmp_path / "fairface_label_train.csv", "file,age,gender,race\ntrain/1.jpg,3-9,Male,Indian\n")
    write(tmp_path / "fairface_label_val.csv", "file,gender,age,race\nval/1.jpg,Male,3-9,Indian\n")
    assert refusal(tmp_path) == (
        "the columns differ from those of fairface_label_train.csv\n"
        f"  where: fairface_label_val.csv:1 has: file, gender, age, race\n{TAKE}"
    )


# --- any CSV ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yes", "no"), [("1", "-1"), ("1", "0"), ("True", "False"), ("yes", "no"), ("Y", "N"), (" 1 ", " 0 ")]
)
def test_a_csv_may_say_yes_and_no_in_several_ways(tmp_path: Path, yes: str, no: str) -> None:
    """1 and -1, 1 and 0 and the usual words are yes and no; empty and ``undetermined`` are unknown."""
    rows = "".join(f"{n}.jpg,{word}\n" for n, word in enumerate((yes, no, "", "undetermined")))
    labels = read_labels(write(tmp_path / "labels.csv", f"path,Smiling\n{rows}"))
    assert labels.flags["Smiling"].tolist() == [1, 0, -1, -1]
    assert (labels.root, labels.source) == (tmp_path, "labels.csv")


@pytest.mark.parametrize("column", ["path", "File", "filename", "image_id", "IMG", "photo"])
def test_a_csv_may_name_its_path_column_in_several_ways(tmp_path: Path, column: str) -> None:
    """The usual names of a path column are known in any case, and a leading ``./`` is no part of a path."""
    labels = read_labels(write(tmp_path / "labels.csv", f"age,{column}\n7,./a/1.jpg\n8,2.jpg\n"))
    assert labels.keys == ["a/1.jpg", "2.jpg"]
    assert {name: values.tolist() for name, values in labels.columns.items()} == {"age": ["7", "8"]}


@pytest.mark.parametrize("column", ["class", "label", "truth"])
def test_a_csv_of_classes(tmp_path: Path, column: str) -> None:
    """A column ``class``, ``label`` or ``truth`` of words is the column of classes."""
    labels = read_labels(write(tmp_path / "labels.csv", f"path,{column}\n1.jpg,cat\n2.jpg,dog\n"))
    assert labels.columns["class"].tolist() == ["cat", "dog"]
    assert list(labels.columns) == ["class"]


def test_a_csv_with_its_own_split_identities_and_weights(tmp_path: Path) -> None:
    """What a column says of a row and not of its photo is taken for what it is, and is no attribute."""
    rows = "1.jpg,1,train,ann,1,a\n2.jpg,0,Validation,bob,2.5,b\n3.jpg,0,TEST,ann,,a\n4.jpg,1,,,1e400,\n"
    labels = read_labels(write(tmp_path / "labels.csv", f"path,Male,Split,identity,weight,stratum\n{rows}"))
    assert labels.weight is not None
    assert labels.stratum is not None
    assert str(labels.weight.tolist()) == "[1.0, 2.5, nan, inf]"
    assert labels.stratum.tolist() == ["a", "b", "a", ""]
    assert labels.split is not None
    assert labels.split.tolist() == ["train", "val", "test", ""]
    assert labels.identity is not None
    ann, bob, again, nobody = labels.identity.tolist()
    assert ann == again
    assert ann != bob
    assert nobody == -1
    assert (list(labels.flags), labels.columns) == (["Male"], {})


@pytest.mark.parametrize("form", ["plain", "gzip", "byte-order mark", "carriage returns", "quoted"])
def test_forms_of_one_csv(tmp_path: Path, form: str) -> None:
    """A CSV may be gzipped, have a byte-order mark, CRLF and quotes; the labels are the same."""
    text = "path,age\nü/1.jpg,30\n2.jpg,40\n"
    text = {
        "byte-order mark": "\ufeff" + text,
        "carriage returns": text.replace("\n", "\r\n"),
        "quoted": '"path","age"\n"ü/1.jpg","30"\n\n"2.jpg",40\n',
    }.get(form, text)
    file = tmp_path / ("labels.csv.gz" if form == "gzip" else "labels.csv")
    file.write_bytes(gzip.compress(text.encode()) if form == "gzip" else text.encode())
    labels = read_labels(file)
    assert labels.keys == ["ü/1.jpg", "2.jpg"]
    assert labels.columns["age"].tolist() == ["30", "40"]


MEND = "  do:    mend the row"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "name,Male\n1.jpg,1\n",
            "the CSV has no column for the photo's path\n  where: labels.csv:1 has: name, Male\n"
            "  do:    name one column 'path' (or file, filename, file_name, image, image_id, img, photo)",
            id="no-path-column",
        ),
        pytest.param(
            "path,Male\n1.jpg,1\n\n2,5.jpg,1\n",
            "the header has 2 columns, this row 3\n  where: labels.csv:4\n"
            "  do:    mend the row, or quote the field that holds a comma",
            id="a-comma-unquoted",
        ),
        pytest.param(
            'path,Male\n1.jpg,1\n"2.jpg,1\n3.jpg,0\n',
            f"the CSV does not parse: unexpected end of data\n  where: labels.csv:4\n{MEND}",
            id="a-quote-unclosed",
        ),
        pytest.param(
            "path,Male\n",
            "the label file has no rows\n  where: labels.csv\n  do:    check the file",
            id="only-a-header",
        ),
        pytest.param("", "the label file has no rows\n  where: labels.csv\n  do:    check the file", id="empty"),
        pytest.param(
            "path,Male,Male\n1.jpg,1,0\n",
            "the column 'Male' is there twice\n  where: labels.csv:1\n  do:    rename one of them",
            id="a-column-twice",
        ),
        pytest.param(
            "path,Male\n./1.jpg,1\n2.jpg,1\n1.jpg,0\n",
            "the photo '1.jpg' has two rows\n  where: labels.csv\n  do:    keep one of them",
            id="a-photo-twice",
        ),
        pytest.param(
            "path,split\n1.jpg,train\n\n2.jpg,dev\n",
            "the split 'dev' is unknown\n  where: labels.csv:4\n  do:    use train, val or test, or leave it empty",
            id="an-unknown-split",
        ),
    ],
)
def test_a_broken_csv_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """What is wrong with a CSV is said whole, with its line."""
    assert refusal(write(tmp_path / "labels.csv", text)) == message


# --- class folders and what is nothing --------------------------------------------------------------------------


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2)).save(path, "PNG")


def test_a_folder_per_class(tmp_path: Path) -> None:
    """Each folder is a class and each photo below it, however deep, is in it; hidden and stray files are not."""
    for name in ("dog/2.PNG", "cat/old/1.jpg", "cat/3.png", "cat/.4.png", "cat/.thumbs/5.png", ".trash/6.png", "7.png"):
        photo(tmp_path / name)
    write(tmp_path / "cat" / "notes.txt", "dear diary")
    labels = read_labels(tmp_path)
    assert labels.keys == ["cat/3.png", "cat/old/1.jpg", "dog/2.PNG"]
    assert labels.columns["class"].tolist() == ["cat", "cat", "dog"]
    assert (labels.root, labels.source) == (tmp_path, tmp_path.name)
    assert labels.notes == (f"3 photos in 2 class folders of {tmp_path}",)


@pytest.mark.parametrize("target", [".", "..", "../photos"])
def test_a_class_folder_that_leads_back_is_refused(tmp_path: Path, target: str) -> None:
    """A link to the folder it is in, or to one above, would give every photo another class as well."""
    photo(tmp_path / "photos" / "cat" / "1.png")
    (tmp_path / "photos" / "loop").symlink_to(target)
    assert refusal(tmp_path / "photos") == (
        "a class's folder is a link back to the folder that it is in\n  where: loop\n  do:    remove the link"
    )


def test_a_class_folder_may_lie_elsewhere(tmp_path: Path) -> None:
    """A link to another folder is as good as the folder; no link below it is followed."""
    photo(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat").symlink_to(tmp_path / "elsewhere")
    assert read_labels(tmp_path / "photos").keys == ["cat/1.png"]


GIVE = "  do:    give CelebA's folder, FairFace's, a CSV with a path column, or one folder of photos per class"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], f"no labels found in this folder\n  where: FOLDER\n{GIVE}"),
        (
            ["a.csv", "b.csv", "c.csv"],
            f"no labels found in this folder; it has 3 CSV files: name one of them\n  where: FOLDER\n{GIVE}",
        ),
        (
            ["cat/notes.txt"],
            "the folders hold no photos\n  where: FOLDER\n  do:    put each class's photos into a folder of its name",
        ),
    ],
)
def test_a_folder_without_labels_is_refused(tmp_path: Path, files: list[str], message: str) -> None:
    """A folder in which no known layout is found says which are known."""
    for name in files:
        write(tmp_path / name, "")
    assert refusal(tmp_path) == message


def test_what_is_not_there_and_what_is_not_known(tmp_path: Path) -> None:
    """A path that does not exist and a text file of some other kind are told apart."""
    assert refusal(tmp_path / "none.csv") == (
        "no such label file or folder\n  where: none.csv\n  do:    check the path"
    )
    assert refusal(write(tmp_path / "other.txt", "1.jpg male\n")) == (
        "a text file of labels that is not CelebA's\n  where: other.txt\n"
        "  do:    CelebA's is called list_attr_celeba.txt; give other labels as a CSV with a path column"
    )
