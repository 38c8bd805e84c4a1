"""``gendercls sample``: some rows of a preds.csv → one page on which a person labels them, which gives a labels.csv."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from gendercls.errors import GenderclsError, PhotoError
from gendercls.labels.table import UNDETERMINED
from gendercls.places import photos_of
from gendercls.preds import Predictions, read_preds, root_of
from gendercls.records import defused, to_line
from gendercls.report.markup import element, printable
from gendercls.report.page import packaged, page, paragraph, verbatim
from gendercls.report.sample import LEAST, Sample, draw
from gendercls.report.thumbnails import AROUND, LARGE, picture_of
from gendercls.rows import Row
from gendercls.wholefile import check_free, write_whole

KEYS = "123456789abcdefghijklmopqrstuvwxyz"
"""Of the classes in their order; more have none. 0 and n are for what is not determinable."""

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class SampleOptions:
    """What the command line says. photos: None for where the run found them."""

    preds: Path
    out: Path
    photos: Path | None = None
    count: int = 200
    seed: int = 1
    show_answers: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class SampleResult:
    """The page that was written. size: bytes; drawn: of the rows with an answer; left_out: rows that have none."""

    out: Path
    size: int
    drawn: int
    answered: int
    left_out: int
    strata: int
    labels_name: str


def sample(options: SampleOptions, tell: Callable[[str], None]) -> SampleResult:
    """Write a page with a sample of the rows. tell: is given what should be known before there is such a file.

    Raises:
        GenderclsError: there are no such rows or photos, or answers are such that no one class can be asked for.
        OutputError: the CSV is damaged; or the page exists already, or cannot be written.
    """
    preds = read_preds(options.preds)
    if preds.independent:
        raise GenderclsError(
            "a sheet asks for one class of each photo, and these answers are attributes that do not exclude another",
            where=str(options.preds),
            do="classify with a model whose classes do; attributes are scored with labels that have all of them",
        )
    root = root_of(preds, options.photos)
    check_free(options.out, "sheet.html", force=options.force)
    try:
        drawn = draw(preds.answers, preds.probabilities, options.count, options.seed)
    except GenderclsError as error:
        error.where = error.where or str(options.preds)
        raise
    pictures = _pictures([preds.rows[number] for number in drawn.rows], root)
    faces = len(drawn.rows) if preds.columns.has_faces else 0
    what = f"{faces:,} faces" if faces else f"{len(pictures):,} photos"
    tell(f"the page will hold {what} themselves: give it only to those who may see them")
    name = "labels-not-blind.csv" if options.show_answers else "labels.csv"
    content = _content(preds, drawn, pictures, name, show_answers=options.show_answers)
    page = sheet_page(content, preds.answers.names, has_faces=preds.columns.has_faces).encode()
    write_whole(options.out, page)
    answered = int(preds.has_answer.sum())
    return SampleResult(options.out, len(page), len(pictures), answered, len(preds) - answered, len(drawn.sizes), name)


def _pictures(rows: list[Row], root: bytes) -> list[str]:
    """Their ``data:`` addresses. Raises GenderclsError: a sheet that lacks some would be a sample of other rows."""
    pictures, missing = [], []
    photos = photos_of(rows, root)
    for row in rows:
        try:
            pictures.append(picture_of(row, photos[row.path], LARGE))
        except PhotoError as error:
            missing.append(f"{row.path}: {error.what}")
    if missing:
        more = ["…"] if len(missing) > _SHOWN else []
        raise GenderclsError(
            f"{len(missing):,} of the {len(rows):,} photos drawn can no longer be shown",
            where="\n".join(missing[:_SHOWN] + more),
            do="name their folder with --photos, put them back, or classify the photos again",
        )
    return pictures


def _content(
    preds: Predictions, drawn: Sample, pictures: list[str], name: str, *, show_answers: bool
) -> dict[str, Any]:
    """What the page's script reads. Fields come as the CSV has them, so that the script need not know how.

    Strata are numbered as they come up in the random order: their own numbers would tell what was answered.
    """
    photos = []
    words = preds.answers.labels(preds.probabilities[drawn.rows])
    strata = list(dict.fromkeys(drawn.stratum.tolist()))
    chosen = zip(drawn.rows.tolist(), drawn.stratum.tolist(), pictures, words, strict=True)
    for number, stratum, picture, word in chosen:
        row = preds.rows[number]
        key = to_line([row.path, *row.face[:1]]).rstrip("\n")
        photo = {"key": key, "stratum": strata.index(stratum), "picture": picture}
        if show_answers:
            photo["answer"] = printable(f"{word}, {100 * preds.confidence[number]:.1f} %")
        photos.append(photo)
    content = {
        "name": name,
        "least": LEAST,
        "header": to_line(["path", *(["face"] if preds.columns.has_faces else []), "truth", "weight", "stratum"]),
        "answers": [to_line([word]).rstrip("\n") for word in (*map(defused, preds.answers.names), UNDETERMINED)],
        "strata": drawn.sizes[strata].tolist(),
        "photos": photos,
    }
    return {"digest": hashlib.sha256(json.dumps(content).encode()).hexdigest(), **content}


# --- the page ----------------------------------------------------------------------------------------------------


def sheet_page(content: dict[str, Any], names: tuple[str, ...], *, has_faces: bool) -> str:
    """The HTML. content: as the script reads it; names: the classes."""
    script = packaged("sheet.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            "style-src 'unsafe-inline'",
            f"script-src 'sha256-{digest}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    count = len(content["photos"])
    what = "face" if has_faces else "photo"
    data = json.dumps(content).replace("<", "\\u003c")  # so that no name ends the element
    return page(
        f"Label {count:,} {what}{'' if count == 1 else 's'}",
        element("h1", f"How do you perceive {'the face in the frame' if has_faces else 'the person in this photo'}?"),
        _instruction(is_blind="answer" not in content["photos"][0]),
        element("noscript", paragraph("This page needs JavaScript, which is switched off here.", style="notice")),
        _desk(names, has_faces=has_faces, name=content["name"]),
        verbatim("script", data, type="application/json", id="sheet"),
        verbatim("script", script),
        head=(
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            verbatim("style", packaged("sheet.css")),
        ),
    )


def _instruction(*, is_blind: bool) -> Element:
    blind = (
        "What the model answered is not shown and not in this page, so that it cannot sway you."
        if is_blind
        else "What the model answered is shown and will sway you: these labels are not blind, and their file says so."
    )
    return element(
        "details",
        element("summary", "How to label"),
        paragraph(
            "Choose how you would perceive the person at first sight: such impressions are coarse and noisy, and say "
            "nothing of anyone’s gender or identity. Choose “not determinable” whenever you are in doubt: that is an "
            f"answer too, and better than a guess. {blind}"
        ),
        paragraph(
            element("small", "The photos are inside this file: give it only to those who may see them."),
        ),
        id="how",
        open="",
    )


def _desk(names: tuple[str, ...], *, has_faces: bool, name: str) -> Element:
    keys = [*KEYS[: len(names)], *[""] * (len(names) - len(KEYS))]
    choices = [*map(_button, names, keys), _button("not determinable", "0")]
    return element(
        "div",
        element("p", id="where", role="status"),
        element("progress", id="progress", max=1, value=0, aria_labelledby="where"),
        element("div", element("img", id="photo", alt=""), *([_mark()] if has_faces else []), id="frame"),
        element("p", id="answer", hidden=""),
        element("p", "All are labelled. Go back to change an answer, or save.", id="done", hidden=""),
        element("div", *choices, id="choices", role="group", aria_label="Your answer"),
        element(
            "div",
            _button("back", "←", id="back"),
            _button("forward", "→", id="forward"),
            element("button", f"Save {name}", type="button", id="save"),
            class_="moves",
        ),
        element("p", id="said", role="status"),
        id="desk",
        hidden="",
    )


def _mark() -> Element:
    """The frame around the face, which is in the middle of its picture, a square; drawn twice to be seen on any."""
    side = 1 / (1 + 2 * AROUND)
    edges = {"x": (1 - side) / 2, "y": (1 - side) / 2, "width": side, "height": side}
    return element("svg", element("rect", **edges), element("rect", **edges), viewBox="0 0 1 1", aria_hidden="true")


def _button(word: str, key: str, **attributes: object) -> Element:
    parts = [element("kbd", key, aria_hidden="true")] if key else []
    return element(
        "button", *parts, element("span", word), type="button", aria_keyshortcuts=_shortcut(key), **attributes
    )


def _shortcut(key: str) -> str | None:
    return {"←": "ArrowLeft Backspace", "→": "ArrowRight", "0": "0 N", "": None}.get(key, key.upper())
