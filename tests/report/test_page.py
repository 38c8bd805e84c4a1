"""The page itself: one sound file that needs nothing beside it, and in which no name becomes markup."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
import tomli_w
from PIL import Image

from gendercls.report.markup import element, printable, serialise
from gendercls.report.run import ReportOptions, report

MakeRun = Callable[..., Path]
ReadPage = Callable[[Path], Any]
KINDS: dict[str, dict[str, Any]] = {
    "classes": {},
    "attributes": {"independent": True},
    "no validation": {"val_fraction": 0},
}


@pytest.fixture(params=[*KINDS, "unfinished"])
def page(request: pytest.FixtureRequest, make_run: MakeRun, read_page: ReadPage) -> Any:
    """A page of each kind of run."""
    run = make_run(**KINDS.get(request.param, {}))
    if request.param == "unfinished":
        (run / "result.json").unlink()
    return read_page(report(ReportOptions(source=run), lambda line: None).out)


def test_a_page_is_one_file(page: Any) -> None:
    """Nothing is fetched: no script, no link or source beside data: and places in the page, no url() in the style."""
    tags = {part.tag for part in page.tree.iter()}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for part in page.tree.iter():
        for name in ("src", "href", "srcset", "xlink:href", "action", "data"):
            assert part.get(name, "#").startswith(("data:image/webp;base64,", "#")), part.get(name)
    assert not re.search(r"url\(|@import|https?:", page.html.replace("data:", ""))
    assert len(page.html.encode()) < 1_000_000


def test_headings_are_in_order(page: Any) -> None:
    """One h1; below it no level is left out; every section is named by its heading and linked to."""
    levels = [int(part.tag[1]) for part in page.tree.iter() if re.fullmatch("h[1-6]", part.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    links = [part.get("href") for part in page.tree.iter("a")]
    assert links == [f"#{heading.get('id')}" for heading in page.tree.iter("h2")]


def test_pictures_and_charts_have_words(page: Any) -> None:
    """Each image has an alternative, each chart a title and a description by which it is named."""
    ids = [part.get("id") for part in page.tree.iter() if part.get("id")]
    assert len(ids) == len(set(ids))
    for part in page.tree.iter():
        assert set(part.get("aria-labelledby", "").split()) <= set(ids)
    assert all(image.get("alt") for image in page.tree.iter("img"))
    for chart in page.tree.iter("svg"):
        first, second = chart[0], chart[1]
        assert (chart.get("role"), first.tag, second.tag) == ("img", "title", "desc")
        assert first.text
        assert second.text
        assert chart.get("aria-labelledby") == f"{first.get('id')} {second.get('id')}"


def test_tables_have_captions_and_headings(page: Any) -> None:
    """Each table has a caption, headed columns and rows as long as the heading, and scrolls by keyboard."""
    tables = list(page.tree.iter("table"))
    assert tables
    for table in tables:
        caption = table.find("caption")
        assert caption is not None
        assert caption.text
        widths = {len(row) for row in table.iter("tr")}
        assert len(widths) == 1
        assert {cell.get("scope") for cell in table.iter("th")} == {"col", "row"}
    regions = [part for part in page.tree.iter("div") if part.get("class") == "scroll"]
    assert [(part.get("tabindex"), part.get("role")) for part in regions] == [("0", "region")] * len(tables)


def test_the_page_speaks_its_language_and_fits_a_phone(page: Any) -> None:
    """The language, the encoding and the viewport are declared; dark and paper have a style of their own."""
    (html,) = page.tree.iter("html")
    assert html.get("lang") == "en"
    metas = [dict(part.attrib) for part in page.tree.iter("meta")]
    assert {"charset": "utf-8"} in metas
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    assert "prefers-color-scheme: dark" in page.html
    assert "@media print" in page.html


NASTY = "<script>alert('1')</script>&\"\n\x1b[31m\u202e"
CLASSES = ("<i>a</i>", 'b"&')
PHOTO = os.fsdecode(b'caf\xe9 "onload=alert(2) <img src=x onerror=alert(3)>\n.jpg')


@pytest.fixture
def nasty_page(make_run: MakeRun, run_gendercls: Callable[..., Any], tmp_path: Path) -> Path:
    """Markup, quotes, newlines and bytes that are not UTF-8, in paths, classes, the recipe and the folder's name."""
    run = make_run("run <b>&")
    content = tomllib.loads((run / "recipe.toml").read_text())
    rules = [f"{name}={rule}" for name, rule in zip(CLASSES, ("!Male", "Male"), strict=True)]
    content["run"] |= {"data": NASTY, "data_licence": NASTY, "classes": rules}
    content["run"] |= {"recipe_name": NASTY, "split": NASTY, NASTY: NASTY, "photos_folder": str(tmp_path)}
    content["recipe"][NASTY] = [NASTY, True]
    (run / "recipe.toml").write_text(tomli_w.dumps(content))
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"classes": CLASSES, "kept": NASTY}))
    Image.new("RGB", (30, 30)).save(tmp_path / PHOTO, "JPEG")
    with (run / "predictions.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        shares = [f"p_{each}" for each in CLASSES]
        writer.writerow(["path", "split", "label", "confidence", *shares, "truth", "correct"])
        writer.writerow([PHOTO, "test", CLASSES[0], "0.9", "0.9", "0.1", CLASSES[1], "0"])
    with (run / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "split", "class"], ["a", "test", CLASSES[0]], [NASTY, NASTY, NASTY]])
    run_gendercls("report", run).check_returncode()
    return run / "report.html"


def test_names_of_strangers_stay_text(nasty_page: Path, read_page: ReadPage) -> None:
    """All of them stand in the page as they are, their control characters shown, and none is an element."""
    page = read_page(nasty_page)
    shown = "<script>alert('1')</script>&\"\\n\\x1b[31m\\u202e"
    photo = 'caf\\xe9 "onload=alert(2) <img src=x onerror=alert(3)>\\n.jpg'
    tags = [part.tag for part in page.tree.iter()]
    assert not {"script", "i"} & set(tags)
    assert tags.count("img") == 1
    assert page.facts("record")["data licence"] == shown
    assert page.facts("record")[shown] == shown
    assert page.facts("recipe")[shown] == f"{shown}, true"
    assert page.rows("answers")[0] == ["label", "answered <i>a</i>", 'answered b"&', "photos"]
    assert 'labelled b"& answered <i>a</i> 90.00 % sure' in page.text("mistakes")
    assert photo in page.text("mistakes")
    (image,) = page.tree.iter("img")
    assert image.get("alt") == f"Photo {photo}"
    assert not [name for part in page.tree.iter() for name in part.attrib if name.startswith("on")]


def test_a_browser_runs_nothing_of_strangers(nasty_page: Path, visit: Callable[..., Any]) -> None:
    """Chromium shows them as text, runs nothing and asks for nothing; of the same page unescaped it does both."""
    shown = visit(nasty_page)
    assert "<script>alert('1')</script>" in shown.page.inner_text("body")
    assert shown.page.locator("img").evaluate("image => image.naturalWidth") > 0
    assert (shown.said, shown.requested) == ([], [])
    nasty_page.write_text(html.unescape(nasty_page.read_text(encoding="utf-8")), encoding="utf-8")
    unescaped = visit(nasty_page)
    assert {"1", "2", "3"} <= set(unescaped.said)
    assert any(address.endswith("/x") for address in unescaped.requested)


# --- markup ------------------------------------------------------------------------------------------------------


def test_text_and_attributes_are_escaped() -> None:
    """What is given as text is text, wherever it stands among elements."""
    tree = element("p", "<a>", element("b", "&"), "</p>", title='"<>', data_n=1, hidden=None)
    assert serialise(tree) == '<p title="&quot;<&gt;" data-n="1">&lt;a&gt;<b>&amp;</b>&lt;/p&gt;</p>'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 漢", "plain é 漢"),
        ("a\nb\x00", "a\\nb\\x00"),
        (os.fsdecode(b"\xff"), "\\xff"),
        ("\ud800", "\\ud800"),
        ("\u202egpj", "\\u202egpj"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    """Control characters, marks that turn the reading direction and bytes that are not UTF-8 are visible."""
    assert printable(text) == shown
    assert isinstance(element("p", text), Element)
    assert serialise(element("p", text)).encode() == f"<p>{shown}</p>".encode()
