"""Which label belongs to which photo: contract 5."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendercls.labels import read_labels
from gendercls.labels.match import LabelIndex, Match

KEYS = ["val/1.jpg", "train/1.jpg", "train/2.jpg", "a/train/2.jpg", "3.jpg"]


@pytest.mark.parametrize(
    ("path", "how", "number"),
    [
        pytest.param("val/1.jpg", "path", 0, id="the key itself"),
        pytest.param("/data/fairface/train/1.jpg", "path", 1, id="the key ends the path"),
        pytest.param("/b/train/2.jpg", "path", 2, id="the shorter of two keys"),
        pytest.param("/b/a/train/2.jpg", "path", 3, id="the longest key wins"),
        pytest.param("/anywhere/3.jpg", "path", 4, id="a file name that one label has"),
        pytest.param("3.jpg", "path", 4, id="a bare file name"),
        pytest.param("/other/1.jpg", "ambiguous", -1, id="a file name that two labels have"),
        pytest.param("1.jpg", "ambiguous", -1, id="a bare file name that two labels have"),
        pytest.param("/xval/4.jpg", "missing", -1, id="no label"),
        pytest.param("/train/3.jpg/", "missing", -1, id="a folder"),
        pytest.param("13.jpg", "missing", -1, id="a name that ends like a key"),
    ],
)
def test_a_photo_finds_its_label(path: str, how: Match, number: int) -> None:
    """Keys match by relative path, else by file name; an ambiguous or missing match is never guessed."""
    assert LabelIndex(KEYS).find(path) == (how, number)


def test_every_fairface_photo_finds_its_own_row(fairface: Path) -> None:
    """FairFace numbers train and val photos alike: by path each of 42,500 finds its row, by name alone none does."""
    keys = read_labels(fairface).keys
    index = LabelIndex(keys)
    assert [index.find(f"{fairface}/{key}") for key in keys] == [("path", n) for n in range(len(keys))]
    assert index.find("elsewhere/1.jpg") == ("ambiguous", -1)
    assert index.find("elsewhere/2501.jpg") == ("name", keys.index("train/2501.jpg"))


def test_no_labels_match_nothing() -> None:
    """An empty index knows no photo."""
    assert LabelIndex([]).find("a/1.jpg") == ("missing", -1)
