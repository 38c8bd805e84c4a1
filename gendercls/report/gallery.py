"""Photos of a preds.csv that are worth a look: the surest, the least sure, and the sure ones that labels contradict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from xml.etree.ElementTree import Element

import numpy as np

from gendercls.errors import PhotoError
from gendercls.places import photos_of
from gendercls.preds import Predictions
from gendercls.report.labelled import Labelled, disputed_rows
from gendercls.report.markup import element
from gendercls.report.page import paragraph, section
from gendercls.report.thumbnails import SIDE, picture_of
from gendercls.sources import Photo

MOST = 12
MOST_WRONG = 24


class Galleries:
    """The sections with photos, or with their names alone.

    pictures: how many photos are shown; missing: how many of those wanted could not be.

    Args: root: the folder that photos are below; None to show none.
    """

    def __init__(self, preds: Predictions, labelled: Labelled, root: bytes | None) -> None:
        self._preds, self._labelled, self._root = preds, labelled, root
        self._photos: dict[str, Photo] = {}
        self.pictures = self.missing = 0
        self._sections = list(self._made())

    def sections(self) -> list[Element]:
        return self._sections

    def _made(self) -> Iterator[Element]:
        preds = self._preds
        order = np.argsort(-preds.confidence, kind="stable")
        answered = [int(place) for place in order if preds.has_answer[place]]
        wrong = disputed_rows(preds, self._labelled)
        surest, unsure = answered[:MOST], answered[: -MOST - 1 : -1]
        if self._root is not None:
            self._photos = photos_of([preds.rows[n] for n in (*wrong[:MOST_WRONG], *surest, *unsure)], self._root)
        if wrong:
            yield self._gallery(
                "disputed",
                "Where labels and answers differ most",
                f"The surest of {len(wrong):,} answers that the labels contradict. Either may be wrong: a queue for "
                "someone to decide.",
                wrong[:MOST_WRONG],
                self._disputed,
            )
        if self._root is not None and answered:
            yield self._gallery("surest", "The surest answers", "", surest, self._plain)
            yield self._gallery("unsure", "The least sure answers", "", unsure, self._plain)

    def _gallery(
        self, key: str, title: str, words: str, places: Sequence[int], lines: Callable[[int], list[Element]]
    ) -> Element:
        items = [
            element("li", *self._picture(place), *lines(place), element("span", self._name(place), class_="path"))
            for place in places
        ]
        style = "mistakes" if self._root is not None else "names"
        return section(key, title, *([paragraph(words)] if words else []), element("ol", *items, class_=style))

    def _picture(self, place: int) -> list[Element]:
        if self._root is None:
            return []
        row = self._preds.rows[place]
        try:
            address = picture_of(row, self._photos[row.path], SIDE)
        except PhotoError as error:
            self.missing += 1
            return [element("div", f"no picture: {error.what}", class_="no-picture")]
        self.pictures += 1
        return [element("img", src=address, alt=f"Photo {self._name(place)}", width=SIDE, height=SIDE)]

    def _name(self, place: int) -> str:
        row = self._preds.rows[place]
        return f"{row.path}, face {row.face[0]}" if row.face else row.path

    def _disputed(self, place: int) -> list[Element]:
        labelled = element("span", "labelled ", element("b", self._labelled.truth[place]))
        return [labelled, *self._plain(place)]

    def _plain(self, place: int) -> list[Element]:
        preds = self._preds
        sure = element("span", f"{100 * preds.confidence[place]:.2f} % sure")
        return [element("span", "answered ", element("b", preds.rows[place].label)), sure]
