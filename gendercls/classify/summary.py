"""What a run says of itself while it goes on, and what it gave in the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from gendercls.classify.tally import Tally
from gendercls.records import without_nan
from gendercls.shares import Share, looks_unfamiliar
from gendercls.stats import Rate


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. total: None until the listing has been counted; rate: photos per second of late."""

    done: int
    failed: int
    total: int | None
    rate: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run gave.

    kept: files whose rows an earlier run had written. seconds, unfamiliar: of this run alone; the second is the share
    of images that are unlike those the model was validated on, of those where that is known. corrected: each class's
    share if the classifier's errors are as frequent as where corrected_by says; empty where that cannot be said.
    unweighted: whether the labels have weights, which scores do not count in.
    """

    out: Path
    tally: Tally
    kept: int
    seconds: float
    device: str
    why_not_cuda: str
    precision: str
    model: str
    threshold: float
    label_source: str
    unweighted: bool
    label_matches: dict[str, int]
    unfamiliar: Rate
    corrected: dict[str, Share]
    corrected_by: str
    notes: tuple[str, ...]
    warning: str

    @property
    def looks_unfamiliar(self) -> bool:
        """Whether the model was not made for photos such as these."""
        return looks_unfamiliar(self.unfamiliar)

    @property
    def rate(self) -> float:
        """Photos per second that this run classified."""
        return (self.tally.files - self.kept) / max(self.seconds, 1e-9)

    def to_json(self) -> str:
        """All of it for programs; shares are 0 to 1, intervals of 95 %: docs/shares.md."""
        tally, scores = self.tally, self.tally.scores()
        content = {
            "out": str(self.out),
            "files": tally.files,
            "photos_by_faces": tally.photos_by_faces() if tally.has_faces else None,
            "answered": tally.answered,
            "uncertain": tally.uncertain,
            "failed": tally.failed,
            "failures": dict(tally.failures),
            "not_photos": tally.not_photos,
            "shares": {name: asdict(rate) for name, rate in tally.shares().items()},
            "corrected_shares": {name: asdict(share) for name, share in self.corrected.items()} or None,
            "corrected_by": self.corrected_by or None,
            "scores": scores.to_dict() if scores else None,
            "labels": self._labels() if self.label_source else None,
            "unfamiliar": asdict(self.unfamiliar) if self.unfamiliar.total else None,
            "device": self.device,
            "precision": self.precision,
            "model": self.model,
            "confidence_threshold": self.threshold,
            "kept_files": self.kept,
            "seconds": self.seconds,
            "photos_per_second": self.rate,
        }
        # A name that is not UTF-8 becomes JSON's own \\u.
        return json.dumps(without_nan(content), ensure_ascii=False).encode("utf-8", "backslashreplace").decode()

    def _labels(self) -> dict[str, object]:
        return {"source": self.label_source, "unweighted": self.unweighted, **self.label_matches}


Report = Callable[[Progress], None]
