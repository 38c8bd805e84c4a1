"""The frame of a page: one HTML file that needs nothing beside it, with its style, and the few shapes used in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from xml.etree.ElementTree import Element

from gendercls.report.markup import Content, element, serialise

PERCEIVED = (
    "Labels say how a labeller would likely perceive a face. They are binary and noisy, they misdescribe transgender "
    "and non-binary people, and they say nothing of anyone’s gender or identity. A figure here says how often the "
    "model agrees with such labels."
)
"""What must stand on every page."""


def page(title: str, *content: Content, head: Sequence[Element] = ()) -> str:
    """A whole HTML document. content: what stands in its ``main``; head: what its head has beside what all have."""
    above = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        verbatim("style", packaged("page.css")),
        *head,
    )
    body = element("body", element("main", *content))
    return "<!DOCTYPE html>\n" + serialise(element("html", above, body, lang="en")) + "\n"


def packaged(name: str) -> str:
    """A style or a script that comes with the package."""
    return resources.files("gendercls.report").joinpath(name).read_text(encoding="utf-8")


def verbatim(tag: str, text: str, **attributes: object) -> Element:
    """A style or a script, which HTML does not escape; text: ours, and without that tag's end."""
    made = element(tag, **attributes)
    made.text = text
    return made


def section(key: str, title: str, *content: Content) -> Element:
    """A part of the page with a heading that links can name."""
    return element("section", element("h2", title, id=key), *content, aria_labelledby=key)


def paragraph(*content: Content, style: str | None = None) -> Element:
    return element("p", *content, class_=style)


def columns(*content: Element) -> Element:
    """Side by side where there is room."""
    return element("div", *content, class_="columns")


def figure(caption: str, *content: Element) -> Element:
    return element("figure", *content, element("figcaption", caption))


def folded(summary: str, content: Element) -> Element:
    """Closed until it is asked for; open on paper."""
    return element("details", element("summary", summary), content)


def table(caption: str, header: Sequence[Content], rows: Iterable[Sequence[Content | None]]) -> Element:
    """A table that scrolls by itself where it is too wide. The first cell of a row is its heading."""
    body = [
        element("tr", element("th", first or "–", scope="row"), *(element("td", "–" if c is None else c) for c in rest))
        for first, *rest in rows
    ]
    heading = element("tr", *(element("th", words, scope="col") for words in header))
    whole = element("table", element("caption", caption), element("thead", heading), element("tbody", *body))
    return element("div", whole, class_="scroll", role="region", aria_label=caption, tabindex=0)


def facts(pairs: Iterable[tuple[str, Sequence[Content]]], style: str) -> Element:
    """Names and what is said of each."""
    items = (element("div", element("dt", name), element("dd", *said)) for name, said in pairs)
    return element("dl", *items, class_=style)
