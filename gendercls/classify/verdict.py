"""What ``verify`` finds: counts, and the first faults of each kind."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gendercls.stats import Rate, wilson

_NAMED = 10


@dataclass(frozen=True, slots=True)
class Fault:
    """A path of the CSV or of the listing, and what is wrong there."""

    path: str
    what: str


@dataclass(slots=True)
class Faults:
    """How many there are of one kind, and the first of them."""

    count: int = 0
    first: list[Fault] = field(default_factory=list)

    def add(self, path: str, what: str) -> None:
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append(Fault(path, what))


@dataclass(slots=True)
class Verdict:
    """What was found. Photos are counted, whatever the number of their rows, and files that are none among them.

    notes: what may change the last decimals, a line each. is_sample: whether only some photos were tried. tried: photos
    that were classified again: same, rounded and different. rounded: their numbers differ by `largest` at most, as
    they may on another machine. untried: photos that once ended the process that read them. contradictory: rows that
    do not follow from their own numbers. misplaced, gone, added: against a new listing.
    """

    preds: Path
    rows: int
    photos: int
    model: str
    device: str
    notes: tuple[str, ...]
    is_sample: bool
    tried: int = 0
    same: int = 0
    rounded: int = 0
    largest: float = 0.0
    untried: int = 0
    contradictory: Faults = field(default_factory=Faults)
    misplaced: Faults = field(default_factory=Faults)
    gone: Faults = field(default_factory=Faults)
    added: Faults = field(default_factory=Faults)
    different: Faults = field(default_factory=Faults)

    @property
    def is_match(self) -> bool:
        """Whether the CSV is what its model says of its photos, as far as was looked."""
        kinds = (self.contradictory, self.misplaced, self.gone, self.added, self.different)
        return not any(faults.count for faults in kinds)

    @property
    def differing(self) -> Rate:
        """The share of photos whose answer is another, with its interval."""
        return wilson(self.different.count, self.tried)

    def to_json(self) -> str:
        """All of it for programs."""
        differing = asdict(self.differing) if self.tried else None
        content = {**asdict(self), "preds": str(self.preds), "is_match": self.is_match, "differing": differing}
        # A name that is not UTF-8 becomes JSON's own \\u.
        return json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
