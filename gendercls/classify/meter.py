"""How far a run is, told as it goes on."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from gendercls.classify.summary import Progress, Report
from gendercls.classify.tally import Tally
from gendercls.errors import GenderclsError


class Meter:
    """Tells the caller how far the run is; counts the photos beside the work, where there is a way to."""

    def __init__(self, report: Report, photos: Callable[[], Iterable[object]] | None, kept: int) -> None:
        self._report = report
        self._total: int | None = None
        self._recent = deque([(time.monotonic(), kept)], maxlen=64)
        if photos is not None:
            threading.Thread(target=self._count, args=(photos,), daemon=True).start()

    def _count(self, photos: Callable[[], Iterable[object]]) -> None:
        with suppress(GenderclsError):  # what ends this walk ends the one that works too
            self._total = sum(1 for _ in photos())

    def tell(self, tally: Tally) -> None:
        self.tell_count(tally.files, tally.failed)

    def tell_count(self, done: int, failed: int = 0) -> None:
        now = time.monotonic()
        self._recent.append((now, done))
        then, before = self._recent[0]
        self._report(Progress(done, failed, self._total, (done - before) / max(now - then, 1e-9)))
