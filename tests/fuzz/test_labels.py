"""Damaged label files: every row and every field is in the labels as the file has it, or the file is refused."""

from __future__ import annotations

import csv
import gzip
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray

from gendercls.errors import LabelError
from gendercls.labels import Labels, read_labels
from gendercls.labels.rules import DEFAULT_CLASSES

DamagedText = Callable[[bytes], SearchStrategy[bytes]]

CELEBA = "5\nMale Young Smiling\na.jpg -1  1 -1\nb.jpg  1 -1 -1\nc.jpg  1  1 -1\nd.jpg -1 -1  1\n10.jpg -1 1 1\n"
LAYOUTS = {
    "celeba": {
        "list_attr_celeba.txt": CELEBA,
        "list_eval_partition.txt": "a.jpg 0\nb.jpg 0\nc.jpg 1\nd.jpg 2\n10.jpg 2\n",
        "identity_CelebA.txt": "a.jpg 17\nb.jpg 3\nc.jpg 17\nd.jpg 10177\n10.jpg 4\n",
    },
    "kaggle": {
        "list_attr_celeba.csv": "image_id,Male,Young\na.jpg,-1,1\nb.jpg,1,-1\nc.jpg,1,1\n",
        "list_eval_partition.csv": "image_id,partition\na.jpg,0\nb.jpg,1\nc.jpg,2\n",
    },
    "fairface": {
        "fairface_label_train.csv": "file,age,gender,race,service_test\ntrain/1.jpg,50-59,Male,East Asian,True\n"
        "train/2.jpg,3-9,Female,Indian,False\ntrain/3.jpg,more than 70,Male,White,True\n",
        "fairface_label_val.csv": "file,age,gender,race,service_test\nval/1.jpg,3-9,Female,Black,False\n"
        "val/2.jpg,20-29,Male,Latino_Hispanic,False\nval/3.jpg,0-2,Female,White,True\n",
    },
    "words": {
        "labels.csv": "path,class,Smiling,age,split,identity\n1.jpg,cat,1,30,train,ann\n"
        '"a, b/2.jpg",dog,0,,val,bob\nü/3.jpg,undetermined,,40,test,\n./4.jpg,cat,yes,,,ann\n'
    },
    "packed": {"labels.csv": "photo,gender,label\n1.jpg,man,a\n2.jpg,woman,b\n3.jpg,,c\n"},
}
PARTS = {"0": "train", "1": "val", "2": "test"}
YES, NO = {"1", "true", "yes", "t", "y"}, {"0", "-1", "false", "no", "f", "n"}


@settings(deadline=None)
@given(data=st.data())
def test_a_damaged_label_file(
    tmp_path_factory: pytest.TempPathFactory, damaged_text: DamagedText, data: st.DataObject
) -> None:
    """Read whole or refused, within a second, and what was read has one meaning."""
    layout = data.draw(st.sampled_from(list(LAYOUTS)))
    folder = tmp_path_factory.getbasetemp() / "labels" / layout
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: text.encode() for name, text in LAYOUTS[layout].items()}
    damaged = data.draw(st.sampled_from(list(files)))
    files[damaged] = data.draw(damaged_text(files[damaged]))
    for name, content in files.items():
        (folder / name).write_bytes(content)
    place = folder
    if layout == "packed":
        place = folder / "labels.csv.gz"
        place.write_bytes(data.draw(damaged_text(gzip.compress(files["labels.csv"], mtime=0))))
    began = time.monotonic()
    try:
        labels = read_labels(place)
    except LabelError as error:
        assert_is_readable(error)
    else:
        assert_is_whole(labels)
        if layout == "celeba":
            assert_is_as_published(labels, files["list_attr_celeba.txt"])
        elif layout != "packed":
            assert_is_as_written(labels, [content for name, content in files.items() if "partition" not in name])
        for name, values in (("list_eval_partition", labels.split), ("identity_CelebA", labels.identity)):
            for suffix in (".txt", ".csv"):
                if name + suffix in files:
                    assert_is_beside_it(labels, files[name + suffix], values)
        assert_has_one_meaning(labels)
    assert time.monotonic() - began < 1


def assert_is_readable(error: LabelError) -> None:
    """One line of what was wrong, where, and what to do: for a person, however odd the file."""
    assert len(error.what.splitlines()) == 1
    assert error.where
    assert error.do
    assert len(str(error).encode()) < 2000


def assert_is_whole(labels: Labels) -> None:
    """As many values everywhere, each of its kind, and no photo twice."""
    assert len(labels) > 0
    assert len(set(labels.keys)) == len(labels)
    assert all(labels.keys)
    for values in labels.flags.values():
        assert (values.dtype, values.shape) == (np.int8, (len(labels),))
        assert set(values.tolist()) <= {1, 0, -1}
    for words in labels.columns.values():
        assert words.shape == (len(labels),)
    if labels.split is not None:
        assert labels.split.shape == (len(labels),)
        assert set(labels.split.tolist()) <= {"train", "val", "test", ""}
    if labels.identity is not None:
        assert (labels.identity.dtype, labels.identity.shape) == (np.int64, (len(labels),))
        assert labels.identity.min() >= -1


def assert_is_as_published(labels: Labels, attributes: bytes) -> None:
    """CelebA's attributes, read anew in the plainest way."""
    first, names, *rows = attributes.decode("utf-8-sig").splitlines()
    rows = [row for row in rows if row.strip()]
    assert int(first) == len(rows) == len(labels)
    assert labels.keys == [row.split()[0] for row in rows]
    assert list(labels.flags) == names.split()
    for number, row in enumerate(rows):
        assert [int(word == "1") for word in row.split()[1:]] == [values[number] for values in labels.flags.values()]


def assert_is_beside_it(labels: Labels, companion: bytes, values: NDArray[Any] | None) -> None:
    """The split or the identities: each row once, and each photo what its row says."""
    lines = [line.replace(",", " ").split() for line in companion.decode("utf-8-sig").splitlines()]
    pairs = [(line[0], line[1]) for line in lines if line[1:] and line[1].isdecimal()]
    said = {key: int(word) if values is labels.identity else PARTS[word] for key, word in pairs}
    assert len(said) == len(pairs)
    assert len([line for line in lines if line]) - len(pairs) <= 1
    assert values is not None
    unknown = -1 if values is labels.identity else ""
    assert values.tolist() == [said.get(key, unknown) for key in labels.keys]


def assert_is_as_written(labels: Labels, contents: list[bytes]) -> None:
    """Each field of each row of a CSV, as Python's reader has it, is what the labels say of that photo."""
    tables = [list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))) for content in contents]
    header = [name.strip() for name in tables[0][0]]
    rows = [[field.strip() for field in row] for table in tables for row in table[1:] if row]
    assert len(rows) == len(labels)
    read = {**labels.flags, **labels.columns}
    read |= {name: read["class"] for name in ("label", "truth") if name in header and name not in read}
    for column, name in enumerate(header):
        words = [row[column] for row in rows]
        if name in labels.flags:
            meanings = [1 if word.lower() in YES else 0 if word.lower() in NO else -1 for word in words]
            assert labels.flags[name].tolist() == meanings
        elif name in read:
            assert read[name].tolist() == words
        elif name.lower() == "split":
            assert labels.split is not None
            assert [word[:2] for word in labels.split.tolist()] == [word.lower()[:2] for word in words]
        elif name.lower() == "identity":
            assert labels.identity is not None
            numbers = labels.identity.tolist()
            assert [number < 0 for number in numbers] == [not word for word in words]
            assert len(set(zip(words, numbers, strict=True))) == len(set(words))
        elif name.lower() not in ("weight", "stratum"):
            assert [key.removeprefix("./") for key in labels.keys] == [word.removeprefix("./") for word in words]


def assert_has_one_meaning(labels: Labels) -> None:
    """What can be asked of labels is answered, or refused in words; a word of a class column is that class."""
    for name in labels.attribute_names():
        if not name.lower().startswith(("race", "ethnic")):
            assert labels.attribute(name).shape == (len(labels),)
    try:
        classes = labels.default_classes()
        assigned = labels.assign(classes)
    except LabelError:
        return
    assert assigned.shape == (len(labels),)
    if classes != DEFAULT_CLASSES:
        names = [classes[number].name if number >= 0 else "" for number in assigned.tolist()]
        assert names == [word if word != "undetermined" else "" for word in labels.columns["class"].tolist()]


# --- found by looking -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "name", "old", "new", "what"),
    [
        pytest.param(
            "celeba",
            "list_attr_celeba.txt",
            "5\n",
            "9" * 5000 + "\n",
            "CelebA's attribute file begins with",
            id="count",
        ),
        pytest.param(
            "celeba", "list_attr_celeba.txt", "Young", "Male", "the column 'Male' is there twice", id="column"
        ),
        pytest.param(
            "celeba",
            "identity_CelebA.txt",
            "10177",
            "9" * 19,
            "a row should be a file name and a number",
            id="identity",
        ),
        pytest.param(
            "celeba", "list_eval_partition.txt", "b.jpg", "a.jpg", "the photo 'a.jpg' has two rows", id="twice"
        ),
        pytest.param(
            "kaggle", "list_eval_partition.csv", "image_id,partition", "x", "a row should be a file name", id="header"
        ),
        pytest.param("words", "labels.csv", "1.jpg", "", "a row does not say of which photo it is", id="no-photo"),
        pytest.param("words", "labels.csv", "cat,1,30", "ca\0,1,30", "the label file has a NUL in it", id="nul"),
    ],
)
def test_what_is_ambiguous_is_refused(tmp_path: Path, layout: str, name: str, old: str, new: str, what: str) -> None:
    """It was read askew once, or ended in a traceback."""
    for file, text in LAYOUTS[layout].items():
        (tmp_path / file).write_text(text.replace(old, new, 1) if file == name else text, encoding="utf-8")
    with pytest.raises(LabelError) as caught:
        read_labels(tmp_path)
    assert caught.value.what.startswith(what)
    assert_is_readable(caught.value)


def test_a_partition_without_its_header_is_read_whole(tmp_path: Path) -> None:
    """Its first row is a photo's."""
    for name, text in LAYOUTS["kaggle"].items():
        (tmp_path / name).write_text(text.replace("image_id,partition\n", ""))
    split = read_labels(tmp_path).split
    assert split is not None
    assert split.tolist() == ["train", "val", "test"]


def test_a_column_whose_name_has_a_sign_of_equality(tmp_path: Path) -> None:
    """Its values are attributes as any other column's."""
    (tmp_path / "labels.csv").write_text("path,a=b\n1.jpg,cat\n2.jpg,dog\n")
    labels = read_labels(tmp_path / "labels.csv")
    assert list(labels.attribute_names()) == ["a=b=cat", "a=b=dog"]
    assert labels.attribute("a=b=dog").tolist() == [0, 1]


def test_a_field_too_long_for_its_column_is_refused(tmp_path: Path) -> None:
    """As an array of words the column would take 4 bytes for each character of the longest, in every row."""
    rows = "".join(f"{number}.jpg,x\n" for number in range(4200))
    (tmp_path / "labels.csv").write_text(f"path,caption\na.jpg,{'x' * 130_000}\n{rows}")
    with pytest.raises(LabelError, match="one of the 4,201 rows has a field of 130,000 characters") as caught:
        read_labels(tmp_path / "labels.csv")
    assert caught.value.where == f"{tmp_path}/labels.csv:2"
