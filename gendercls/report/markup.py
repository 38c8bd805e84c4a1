"""HTML and SVG as a tree: text goes in as data and comes out escaped, so no name of a photo can become markup."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

Content = Element | str


def element(tag: str, *content: Content, **attributes: object) -> Element:
    """One element; attribute names lose a trailing ``_``, and other ``_`` become ``-``. None leaves an attribute out.

    >>> serialise(element("td", "a < b", class_="n"))
    '<td class="n">a &lt; b</td>'
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(
                name.rstrip("_").replace("_", "-"),
                _number(value) if isinstance(value, float) else printable(str(value)),
            )
    for part in content:
        if isinstance(part, Element):
            made.append(part)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + printable(part)
        else:
            made.text = (made.text or "") + printable(part)
    return made


def serialise(tree: Element) -> str:
    """The HTML of a tree."""
    return tostring(tree, encoding="unicode", method="html")


def printable(text: str) -> str:
    r"""Text whose control characters are shown instead of obeyed; bytes that were not UTF-8 become ``\xNN``."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # how Python carries a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _number(value: float) -> str:
    """A coordinate; a hundredth of a unit is finer than any screen."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
