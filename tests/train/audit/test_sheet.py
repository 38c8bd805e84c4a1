"""The contact sheet: one file, nothing from elsewhere, and no string that is obeyed."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from gendercls.images import Preprocessing
from gendercls.stats import wilson
from gendercls.train.audit.findings import Findings, LabelledPhotos, examine
from gendercls.train.audit.photos import check_photos
from gendercls.train.audit.sheet import MOST_SUSPECTS, sheet
from gendercls.train.audit.suspects import LabelErrors, LabelSuspect

EVIL = '<script>alert("x")</script>&\x1b[31m\udcff.jpg'


class Page(HTMLParser):
    """Counts elements, and keeps addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def paths(celeba: Path) -> list[Path]:
    """Three photos, the last of which is the first again."""
    return [celeba / "img_align_celeba" / name for name in ("000001.jpg", "000002.jpg", "000001.jpg")]


@pytest.fixture(scope="module")
def findings(paths: list[Path]) -> Findings:
    photos = LabelledPhotos(
        check_photos(paths, Preprocessing("crop", 128, 128, "bicubic", 0.25)),
        [EVIL, "b.jpg", "c.jpg"],
        np.int8([[1, 0], [0, 1], [0, 1]]),
        ["<b>female", "male"],
        False,
        None,
        np.array(["train", "train", "test"]),
    )
    return examine(photos)


def errors(count: int) -> LabelErrors:
    suspects = [LabelSuspect(n % 3, "<b>female", "male", 0.004, 0.996, 0.992) for n in range(count)]
    return LabelErrors("weights.pt", {"all classes": wilson(95, 100)}, suspects)


def test_the_page_needs_nothing_beside_it(findings: Findings, paths: list[Path]) -> None:
    """Every picture is inside the page; there is no script and no address."""
    page = Page(sheet("CelebA", findings, errors(3), paths))
    assert (page.tags["img"], page.tags["script"], page.tags["link"]) == (5, 0, 0)
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert "http" not in re.sub(r"data:[^\"]*", "", sheet("CelebA", findings, errors(3), paths))


def test_strings_from_strangers_are_text(findings: Findings, paths: list[Path]) -> None:
    """A key, a class and a source with markup, control characters and bytes that are not UTF-8 are shown as text."""
    text = sheet(EVIL, findings, errors(1), paths)
    page = Page(text)
    assert (page.tags["script"], page.tags["b"]) == (0, 0)
    assert '<script>alert("x")</script>&\\x1b[31m\\xff.jpg' in page.text
    assert "labelled <b>female" in page.text
    text.encode("utf-8")


def test_suspects_and_copies_say_what_they_are(findings: Findings, paths: list[Path]) -> None:
    """A suspect has both labels and probabilities; a group of copies its contradiction, its leak and its parts."""
    words = " ".join(Page(sheet("CelebA", findings, errors(1), paths)).text.split())
    assert "labelled <b>female0.004 judged male0.996" in words
    assert "labels differ" in words
    assert "on both sides of the split" in words
    assert "male · test · exact" in words


def test_a_long_list_is_cut_and_says_so(findings: Findings, paths: list[Path]) -> None:
    """Of more suspects than the page can bear, the worst are shown and the file with all is named."""
    page = Page(sheet("CelebA", findings, errors(MOST_SUSPECTS + 40), paths))
    assert page.tags["img"] == MOST_SUSPECTS + 2
    assert "The worst 160 of 200 labels; all are in label_errors.csv." in page.text


def test_a_photo_that_is_gone_leaves_its_place(findings: Findings, paths: list[Path], tmp_path: Path) -> None:
    """A photo that can no longer be read is said to be so, and the page is made."""
    page = Page(sheet("CelebA", findings, errors(1), [tmp_path / "gone.jpg", *paths[1:]]))
    assert "no longer readable" in page.text


def test_without_a_judge_there_are_no_labels_to_look_at(findings: Findings, paths: list[Path]) -> None:
    """Where labels were not judged the page has the copies alone."""
    page = Page(sheet("CelebA", findings, None, paths))
    assert "Labels to look at" not in page.text
    assert "Copies" in page.text
