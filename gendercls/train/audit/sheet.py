"""The contact sheet: one HTML file that needs no network, with the labels and the copies that are worth a look."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from gendercls.errors import PhotoError
from gendercls.images import decode
from gendercls.train.audit.duplicates import Copy, Group
from gendercls.train.audit.findings import Findings
from gendercls.train.audit.suspects import LabelErrors, LabelSuspect

MOST_SUSPECTS = 160
MOST_GROUPS = 60
_SIDE = 144
_QUALITY = 80

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2126; --quiet: #59636e; --rule: #d5dae0; --soft: #f3f5f8;
  --given: #b04a00; --other: #00629b; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181c; --ink: #e6e9ec; --quiet: #a0aab4; --rule: #39424b;
  --soft: #1e242a; --given: #f5a04c; --other: #6cc0f5; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 3rem) 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 0.5rem; padding-top: 1.5rem; border-top: 1px solid var(--rule); }
p, li { overflow-wrap: anywhere; }
p { max-width: 48rem; margin: 0.6rem 0; }
.quiet { color: var(--quiet); }
.findings { padding-left: 1.2rem; }
.cards { list-style: none; margin: 1rem 0; padding: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(11.5rem, 1fr)); }
.groups { grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }
.cards > li { background: var(--soft); border-radius: 0.5rem; padding: 0.75rem; font-size: 0.85rem; line-height: 1.4;
  min-width: 0; }
.cards img, .no-picture { display: block; width: 9rem; height: 9rem; object-fit: contain; margin: 0 auto 0.5rem;
  border-radius: 0.3rem; background: var(--paper); }
.no-picture { display: grid; place-items: center; border: 1px dashed var(--quiet); color: var(--quiet); }
.copies { display: flex; flex-wrap: wrap; gap: 0.75rem; }
.copies figure { margin: 0; width: 9rem; }
.copies img, .copies .no-picture { margin: 0 0 0.4rem; }
.labels { display: grid; grid-template-columns: 1fr auto; gap: 0 0.5rem; margin: 0; }
.labels dt, .labels dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.labels dd { text-align: right; font-variant-numeric: tabular-nums; }
.labels .given { color: var(--given); }
.labels .other { color: var(--other); font-weight: 600; }
.path { display: block; color: var(--quiet); font-size: 0.78rem; overflow-wrap: anywhere; }
.tag { display: inline-block; border: 1px solid var(--given); color: var(--given); border-radius: 1em;
  padding: 0 0.55em; margin: 0 0.3em 0.4em 0; font-size: 0.78rem; }
@media print { .cards > li { break-inside: avoid; } }
"""


def sheet(source: str, findings: Findings, label_errors: LabelErrors | None, paths: Sequence[Path]) -> str:
    """The whole page.

    Args: source: the data's name. paths: ``[N]``, of the photos that the findings number.
    """
    suspects = "" if label_errors is None else _suspects(findings, label_errors, paths)
    lines = [*findings.lines(), *([] if label_errors is None else label_errors.lines())]
    title = f"Audit of {source}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{_text(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{_text(title)}</h1>
<p class="quiet">Labels say how a labeller would likely perceive a face, not anyone's gender. This page holds photos:
share it only where the licence of the data allows that.</p>
<ul class="findings">{"".join(f"<li>{_text(line)}</li>" for line in lines)}</ul>
{suspects}{_groups(findings, paths)}</main>
</body>
</html>
"""


def _suspects(findings: Findings, label_errors: LabelErrors, paths: Sequence[Path]) -> str:
    shown = label_errors.suspects[:MOST_SUSPECTS]
    cards = "".join(_suspect(suspect, findings, paths) for suspect in shown)
    return f"""<section>
<h2>Labels to look at</h2>
<p>{_extent(len(shown), len(label_errors.suspects), "labels", "label_errors.csv")} For each photo: its label, and what
the judge answers instead, with the judge's probabilities. The judge is often wrong itself: look before you change a
label.</p>
<ul class="cards">{cards}</ul>
</section>
"""


def _suspect(suspect: LabelSuspect, findings: Findings, paths: Sequence[Path]) -> str:
    n = suspect.number
    return f"""<li>{_picture(paths[n])}
<dl class="labels"><dt class="given">labelled {_text(suspect.label)}</dt><dd>{suspect.label_probability:.3f}</dd>
<dt class="other">judged {_text(suspect.suggested)}</dt><dd>{suspect.suggested_probability:.3f}</dd></dl>
<span class="path">{_text(findings.photos.keys[n])}</span></li>
"""


def _groups(findings: Findings, paths: Sequence[Path]) -> str:
    if not findings.groups:
        return ""
    worst = sorted(
        findings.groups, key=lambda group: (group not in findings.contradictions, group not in findings.leaks)
    )
    shown = worst[:MOST_GROUPS]
    cards = "".join(_group(group, findings, paths) for group in shown)
    return f"""<section>
<h2>Copies</h2>
<p>{_extent(len(shown), len(worst), "groups", "duplicates.csv")} Those with labels that differ come first, then those
on both sides of the split. The distance is the number of bits, of 256, that the hash of a photo differs in from that of
the first.</p>
<ul class="cards groups">{cards}</ul>
</section>
"""


def _group(group: Group, findings: Findings, paths: Sequence[Path]) -> str:
    tags = (["labels differ"] if findings.photos.contradicted(group) else []) + (
        ["on both sides of the split"] if group in findings.leaks else []
    )
    figures = "".join(_copy(copy, group, findings, paths) for copy in group[:6])
    more = f'<p class="quiet">and {len(group) - 6:,} more</p>' if len(group) > 6 else ""
    return f"""<li>{"".join(f'<span class="tag">{_text(tag)}</span>' for tag in tags)}
<div class="copies">{figures}</div>{more}</li>
"""


def _copy(copy: Copy, group: Group, findings: Findings, paths: Sequence[Path]) -> str:
    photos = findings.photos
    columns = (photos.contradicted(group) or [0])[:3] if photos.independent else None
    words = [photos.label(copy.number, columns), str(photos.parts[copy.number])]
    if copy.kind != "first":
        words.append(copy.kind if copy.kind == "exact" else f"{copy.kind}, distance {copy.distance}")
    return f"""<figure>{_picture(paths[copy.number])}<figcaption>{_text(" · ".join(filter(None, words)))}
<span class="path">{_text(photos.keys[copy.number])}</span></figcaption></figure>
"""


def _extent(shown: int, total: int, noun: str, file: str) -> str:
    if shown < total:
        return f"The worst {shown:,} of {total:,} {noun}; all are in {file}."
    return f"All {total:,} {noun}, worst first." if total else f"There are no {noun} to show."


def _picture(path: Path) -> str:
    """The whole photo, small, inside the page."""
    try:
        image = decode(path.read_bytes(), name=path.name, at_least=(2 * _SIDE, 2 * _SIDE))
    except (OSError, PhotoError):
        return '<div class="no-picture">no longer readable</div>'
    image.thumbnail((_SIDE, _SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode("ascii")}">'


def _text(text: str) -> str:
    """Text from strangers as HTML: bytes that are not UTF-8 as ``\\xNN``, control characters as escapes."""
    readable = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return escape("".join(c if c.isprintable() else ascii(c)[1:-1] for c in readable))
