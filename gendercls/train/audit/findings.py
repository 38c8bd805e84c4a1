"""What the photos' contents, labels and parts say together: copies, contradictions, leaks, and rare classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gendercls.labels.splits import PARTS
from gendercls.train.audit.duplicates import Group, find_duplicates
from gendercls.train.audit.photos import PhotoCheck

RARE = 0.1
"""The share of the photos below which a class is called rare; with more than five classes, half of an even share."""

_SHOWN = 3


@dataclass(frozen=True)
class LabelledPhotos:
    """N photos: what was found in each, and what is said of it.

    checks: ``[N]``; photos with a reason take no part. keys: paths, ``[N]``. targets: int8 ``[N, K]``, a column per
    class: 1 yes, 0 no, -1 unknown; one-hot unless independent. names: K classes. independent: whether each class is
    an attribute by itself. identity: int64 ``[N]``, -1 where unknown; None where the data does not say. parts: str
    ``[N]`` of ``train``, ``val``, ``test``, or empty.
    """

    checks: Sequence[PhotoCheck]
    keys: Sequence[str]
    targets: NDArray[np.int8]
    names: Sequence[str]
    independent: bool
    identity: NDArray[np.int64] | None
    parts: NDArray[np.str_]

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        return np.array([not check.reason for check in self.checks], bool)

    def label(self, number: int, columns: Sequence[int] | None = None) -> str:
        """What a photo is labelled as: its class, or of attributes (all, or those columns) ``Smiling !Young``."""
        row = self.targets[number]
        if not self.independent:
            return self.names[int(row.argmax())]
        chosen = range(len(row)) if columns is None else columns
        return " ".join(attribute_word(self.names[c], bool(row[c])) for c in chosen if row[c] >= 0)

    def contradicted(self, group: Group) -> list[int]:
        """The columns in which copies have both a yes and a no."""
        rows = self.targets[[copy.number for copy in group]]
        return np.flatnonzero((rows == 1).any(axis=0) & (rows == 0).any(axis=0)).tolist()

    def parts_of(self, numbers: Sequence[int]) -> list[str]:
        """The parts of the split that photos are in, in the order train, val, test."""
        return [part for part in PARTS if part in set(self.parts[list(numbers)].tolist())]


def attribute_word(name: str, value: bool) -> str:
    """An attribute's value in the words of class rules: ``Smiling`` or ``!Smiling``."""
    return name if value else f"!{name}"


@dataclass(frozen=True, slots=True)
class RareClass:
    """A class, or the lack of an attribute, that few photos have. part: of the split, or ``all``; share: 0 to 1."""

    name: str
    part: str
    count: int
    share: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found among N photos.

    groups: of copies. contradictions, leaks: those groups whose labels differ, and those in more than one part.
    identities: those in more than one part, None where the data does not say who is who. shares: of each class, in
    all photos and in each part, float ``[1 + parts, K]`` (see parts); rare: where they are low.
    """

    photos: LabelledPhotos
    groups: list[Group]
    contradictions: list[Group]
    leaks: list[Group]
    identities: list[int] | None
    parts: list[str]
    shares: NDArray[np.float64]
    rare: list[RareClass]

    def copies(self) -> dict[str, int]:
        """How many photos are an exact, a near or a mirrored copy of the first photo of their group."""
        kinds = [copy.kind for group in self.groups for copy in group]
        return {kind: kinds.count(kind) for kind in ("exact", "near", "mirrored")}

    def lines(self) -> list[str]:
        """Each finding in a line, also that there is nothing to find."""
        return [*self.short_lines(), self._shares_line()]

    def short_lines(self) -> list[str]:
        """As `lines`, without the shares of the classes, which training tells itself."""
        return [self._copies_line(), *self._contradiction_lines(), self._leak_line(), *self._rare_lines()]

    def _copies_line(self) -> str:
        if not self.groups:
            return "copies: none"
        counts = ", ".join(f"{count:,} {kind}" for kind, count in self.copies().items())
        return f"copies: {counts}, in {_counted(len(self.groups), 'group')}: {self._shown(self.groups)}"

    def _contradiction_lines(self) -> list[str]:
        if not self.contradictions:
            return []
        shown = self._shown(self.contradictions, self._labels)
        return [f"warning: {_counted(len(self.contradictions), 'group')} of copies with labels that differ: {shown}"]

    def _leak_line(self) -> str:
        if not self.parts:
            return "leaks: not looked for, since there is no split"
        unknown = "; who is in which photo is unknown" if self.identities is None else ""
        found = [_counted(len(self.leaks), "group") + " of copies"] if self.leaks else []
        if self.identities:
            found.append(_counted(len(self.identities), "identity", "identities"))
        if not found:
            return f"leaks: no copies{'' if unknown else ' and no identity'} on both sides of the split{unknown}"
        shown = f": {self._shown(self.leaks, self._part)}" if self.leaks else ""
        return f"warning: {' and '.join(found)} on both sides of the split{unknown}{shown}"

    def _rare_lines(self) -> list[str]:
        found: dict[str, list[str]] = {}
        for rare in self.rare:
            found.setdefault(rare.part, []).append(f"{rare.name} {100 * rare.share:.1f} % ({rare.count:,})")
        return [f"warning: rare in {_where(part)}: {', '.join(said)}" for part, said in found.items()]

    def _shares_line(self) -> str:
        """Also per part for classes that exclude each other; of attributes, which are many, overall."""
        words = []
        for name, overall, *each in zip(self.photos.names, *(100 * self.shares).tolist(), strict=True):
            in_parts = ", ".join(f"{part} {share:.1f}" for part, share in zip(self.parts, each, strict=True))
            more = f" ({in_parts})" if in_parts and not self.photos.independent else ""
            words.append(f"{name} {overall:.1f} %{more}")
        return f"shares: {', '.join(words)}"

    def _labels(self, group: Group, number: int) -> str:
        return f" ({self.photos.label(number, self.photos.contradicted(group)[:_SHOWN])})"

    def _part(self, group: Group, number: int) -> str:
        return f" ({self.photos.parts[number] or 'no part'})"

    def _shown(self, groups: list[Group], more: Callable[[Group, int], str] | None = None) -> str:
        words = []
        for group in groups[:_SHOWN]:
            names = (
                f"{self.photos.keys[copy.number]}{more(group, copy.number) if more else ''}" for copy in group[:_SHOWN]
            )
            words.append(" = ".join(names) + (" = …" if len(group) > _SHOWN else ""))
        return "; ".join(words) + ("; …" if len(groups) > _SHOWN else "")


def short_audit(photos: LabelledPhotos) -> list[str]:
    """What training should say of its photos before it begins; a line each. Seconds for 200,000 photos."""
    return examine(photos).short_lines()


def examine(photos: LabelledPhotos) -> Findings:
    """Look for copies, contradictions, leaks and rare classes among photos that were opened already."""
    groups = find_duplicates(photos.checks)
    parts = photos.parts_of(np.flatnonzero(photos.usable).tolist())
    shares, rare = _shares(photos, parts)
    return Findings(
        photos,
        groups,
        [group for group in groups if photos.contradicted(group)],
        [group for group in groups if len(photos.parts_of([copy.number for copy in group])) > 1],
        leaking_identities(photos),
        parts,
        shares,
        rare,
    )


def leaking_identities(photos: LabelledPhotos) -> list[int] | None:
    """Identities with usable photos in more than one part, ascending; None where the data does not say."""
    if photos.identity is None or (photos.identity < 0).all():
        return None
    chosen = photos.usable & (photos.identity >= 0) & (photos.parts != "")
    pairs = set(zip(photos.identity[chosen].tolist(), photos.parts[chosen].tolist(), strict=True))
    parts_each = Counter(who for who, _ in pairs)
    return sorted(who for who, parts in parts_each.items() if parts > 1)


def _shares(photos: LabelledPhotos, parts: list[str]) -> tuple[NDArray[np.float64], list[RareClass]]:
    """Shares ``[1 + parts, K]``, and what is rare: in all photos, or in a part alone."""
    below = RARE if photos.independent else min(RARE, 0.5 / len(photos.names))
    shares: list[NDArray[np.float64]] = []
    rare: dict[str, RareClass] = {}
    for part in ("all", *parts):
        chosen = photos.usable if part == "all" else photos.usable & (photos.parts == part)
        yes, no = ((photos.targets[chosen] == value).sum(axis=0) for value in (1, 0))
        share = yes / np.maximum(yes + no, 1)
        shares.append(share)
        words = [(name, yes[n], share[n]) for n, name in enumerate(photos.names)]
        if photos.independent:
            words += [(attribute_word(name, False), no[n], 1 - share[n]) for n, name in enumerate(photos.names)]
        for name, count, value in words:
            if value < below:
                rare.setdefault(name, RareClass(name, part, int(count), float(value)))
    return np.array(shares), list(rare.values())


def _where(part: str) -> str:
    return "all photos" if part == "all" else f"the {part} part"


def _counted(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
