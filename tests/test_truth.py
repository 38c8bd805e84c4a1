"""What the labels say of photos, however many photos come first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gendercls.errors import LabelError
from gendercls.labels import ClassRule
from gendercls.modelfile import read_model_file, shipped_model
from gendercls.sources import PhotoFile, readable_name
from gendercls.spec import ModelSpec
from gendercls.truth import TruthTable


@pytest.fixture(scope="module")
def spec() -> ModelSpec:
    """The shipped model's."""
    return read_model_file(shipped_model()).spec


def table_of(path: Path, spec: ModelSpec, split: str | None) -> TruthTable:
    """Labels in the classes of a model."""
    return TruthTable(path, spec.classes, independent=spec.independent, split=split)


def photo(place: bytes) -> PhotoFile:
    """A photo that nobody reads."""
    return PhotoFile(readable_name(place), place)


def strangers(count: int) -> Iterator[PhotoFile]:
    """Photos that no label knows."""
    return (photo(b"s%d.jpg" % number) for number in range(count))


def test_a_label_may_come_after_any_number_of_photos(tmp_path: Path, spec: ModelSpec) -> None:
    """CelebA's test part is the last tenth of 202,599 photos: labels and parts are looked for to the end."""
    (tmp_path / "l.csv").write_text("path,Male,split\na.jpg,0,train\nb.jpg,1,test\n")
    table = table_of(tmp_path / "l.csv", spec, "test")
    table.check_belongs([*strangers(20_000), photo(b"a.jpg"), *strangers(20_000), photo(b"b.jpg")])
    with pytest.raises(LabelError, match=r"none of the photos \(20,001\) is in the part 'test'"):
        table.check_belongs([*strangers(20_000), photo(b"a.jpg")])
    with pytest.raises(LabelError, match=r"none of the photos \(20,000\) is in the labels"):
        table.check_belongs(strangers(20_000))


def test_looking_for_a_label_ends_at_the_first(tmp_path: Path, spec: ModelSpec) -> None:
    """So that a large folder is not walked once more than need be."""
    (tmp_path / "l.csv").write_text("path,Male\na.jpg,0\n")
    photos = iter([photo(b"a.jpg"), *strangers(5)])
    table_of(tmp_path / "l.csv", spec, None).check_belongs(photos)
    assert len(list(photos)) == 5


def test_class_folders_match_by_raw_names(tmp_path: Path, spec: ModelSpec) -> None:
    """A photo whose name is not UTF-8 is found in class folders as any other."""
    places = [os.path.join(os.fsencode(tmp_path), name, b"caf\xe9.jpg") for name in (b"female", b"male")]
    for place in places:
        os.mkdir(os.path.dirname(place))
        Path(os.fsdecode(place)).touch()
    table = table_of(tmp_path, spec, None)
    assert [table.of(photo(place)) for place in places] == ["female", "male"]
    assert table.matches == {"path": 2}


def test_a_label_that_leaves_the_truth_open_is_counted(tmp_path: Path, spec: ModelSpec) -> None:
    """A photo that no class covers has a label and no truth; the person is told how many there are."""
    (tmp_path / "l.csv").write_text("path,Male\na.jpg,0\nb.jpg,\n")
    table = table_of(tmp_path / "l.csv", spec, None)
    assert [table.of(photo(name)) for name in (b"a.jpg", b"b.jpg", b"c.jpg")] == ["female", "", ""]
    assert table.matches == {"path": 2, "missing": 1, "open": 1}


def test_the_truth_of_attributes_is_whole_or_open(tmp_path: Path, spec: ModelSpec) -> None:
    """The true attributes' names in the model's order, ``none`` without any, nothing where one is unknown."""
    (tmp_path / "l.csv").write_text("path,B,A\na.jpg,1,1\nb.jpg,0,0\nc.jpg,1,\nd.jpg,1,0\n")
    attributes = replace(spec, classes=(ClassRule("A", "A"), ClassRule("B", "B")), independent=True)
    table = table_of(tmp_path / "l.csv", attributes, None)
    names = (b"a.jpg", b"b.jpg", b"c.jpg", b"d.jpg")
    assert [table.of(photo(name)) for name in names] == ["A B", "none", "", "B"]
    assert table.matches == {"path": 4, "open": 1}
