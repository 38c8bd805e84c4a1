"""``gendercls doctor PHOTOS``: how fast this machine classifies these photos, what limits it, and what to change."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from gendercls.classify.classifier import Classifier
from gendercls.classify.pipeline import in_order
from gendercls.classify.session import Session
from gendercls.errors import GenderclsError, PhotoError
from gendercls.images import to_array
from gendercls.modelfile import Precision, read_model_file, shipped_models
from gendercls.sources import Listing, Photo
from gendercls.spec import ModelSpec

SAMPLE = 256
"""So many photos are tried, the first of the folder: enough to be like the rest, and soon read."""

SECONDS = 3.0
"""Of each measurement; a dozen of them take less than a minute."""

_SAMPLE_SECONDS = 3 * SECONDS
_CPU_BATCHES = (1, 4, 8, 16)
_WORTH_SAYING = 1.05
"""A way that is faster by less may be so by chance."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Speed:
    """One thing by itself. rate: photos a second. is_default: whether ``classify`` does it so without being told."""

    what: str
    rate: float
    is_default: bool


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """What was measured, and what follows: lines for a person.

    photos: how many were tried; unreadable: files of the sample that are no readable photo.
    """

    photos: int
    unreadable: int
    device: str
    speeds: list[Speed]
    conclusions: list[str]


def measure(photos: Sequence[str], tell: Tell) -> SpeedReport:
    """Try the shipped model on the first photos, in every way that an option of ``classify`` can ask for.

    Args:
        photos: folders or files.
        tell: is given a line before each measurement.

    Raises:
        GenderclsError: there is no such folder, or no photo among its first files.
    """
    classifier = Classifier()
    tell("reading a sample")
    sample, arrays, unreadable = _sample(photos, classifier.spec)
    jobs, device = classifier.jobs, classifier.device
    tell("measuring: decoding")
    decode = Speed(f"decode files in memory, {jobs} threads", _decode_rate(sample, classifier), True)
    networks = {}
    default = _default(classifier)
    for precision, batch_size in _ways(classifier):
        tell(f"measuring: network, {precision}, {batch_size} at once")
        networks[precision, batch_size] = _network_rate(
            classifier.session
            if (precision, batch_size) == default
            else Session(read_model_file(shipped_models()[precision]), device=device, batch_size=batch_size),
            arrays,
            jobs,
        )
    wholes = {}
    for threads in (jobs, 2 * jobs):
        tell(f"measuring: all of it, {threads} threads")
        classifier.jobs = threads
        wholes[threads] = _rate(classifier.chunks(cycle(sample)), threads)
    speeds = [
        decode,
        *(Speed(f"network alone, {way[0]}, {way[1]} at once", rate, way == default) for way, rate in networks.items()),
        *(Speed(f"all of it, {threads} threads", rate, threads == jobs) for threads, rate in wholes.items()),
    ]
    conclusions = [
        _limit(decode.rate, networks[default], is_cuda=classifier.session.device.is_cuda),
        *_changes(networks, default, wholes, jobs),
    ]
    return SpeedReport(len(sample), unreadable, device, speeds, conclusions)


def _sample(photos: Sequence[str], spec: ModelSpec) -> tuple[list[Photo], NDArray[np.uint8], int]:
    """Readable photos, their arrays ``[N, H, W, 3]``, and how many of the first files are none."""
    readable: list[Photo] = []
    arrays: list[NDArray[np.uint8]] = []
    unreadable = 0
    end = time.perf_counter() + _SAMPLE_SECONDS
    for photo in islice(Listing(photos), SAMPLE):
        if readable and time.perf_counter() >= end:
            break
        try:
            arrays.append(to_array(photo.read(), spec.preprocessing, name=photo.key))
            readable.append(photo)
        except PhotoError:
            unreadable += 1
    if not readable:
        raise GenderclsError(
            f"no photo that can be read is among the first files ({unreadable} tried)",
            where=", ".join(photos),
            do="name a folder of photos",
        )
    return readable, np.stack(arrays), unreadable


def _ways(classifier: Classifier) -> Iterator[tuple[Precision, int]]:
    """Precision and batch size of each way to run the network; on a GPU the default alone, which tunes itself."""
    if classifier.session.device.is_cuda:
        yield _default(classifier)
        return
    yield from ((precision, size) for precision in sorted(shipped_models()) for size in _CPU_BATCHES)


def _default(classifier: Classifier) -> tuple[Precision, int]:
    return cast("Precision", classifier.spec.precision), classifier.session.batch_size


def _decode_rate(sample: Sequence[Photo], classifier: Classifier) -> float:
    pre, jobs = classifier.spec.preprocessing, classifier.jobs

    def work(chunk: tuple[Photo, ...]) -> list[int]:
        try:
            return [len(to_array(photo.read(), pre, name=photo.key)) for photo in chunk]
        except PhotoError as error:
            where = ", ".join(photo.key for photo in chunk)
            raise GenderclsError(f"a photo has changed meanwhile: {error.what}", where=where, do="try again") from None

    return _rate(in_order(work, cycle(sample), size=classifier.session.batch_size, jobs=jobs), jobs)


def _network_rate(session: Session, arrays: NDArray[np.uint8], jobs: int) -> float:
    def work(chunk: tuple[NDArray[np.uint8], ...]) -> list[NDArray[np.float32]]:
        return list(session.run(np.stack(chunk)))

    return _rate(in_order(work, cycle(arrays), size=session.batch_size, jobs=jobs), jobs)


def _rate(chunks: Iterator[list[Any]], jobs: int) -> float:
    """Items a second that come out of the chunks; in whole rounds of one a thread, since they come in such bursts."""
    rounds = iter(lambda: list(islice(chunks, jobs)), [])
    with closing(cast("Generator[list[Any]]", chunks)):
        next(rounds)  # until then threads start
        began, count = time.perf_counter(), 0
        while True:
            count += sum(map(len, next(rounds)))
            if (spent := time.perf_counter() - began) >= SECONDS:
                return count / spent


def _limit(decode: float, network: float, *, is_cuda: bool) -> str:
    if is_cuda:  # both at once
        slower, faster = sorted((("decoding", decode), ("the network", network)), key=lambda way: way[1])
        return f"{slower[0]} limits: {faster[0]} alone would be {faster[1] / slower[1]:.1f} times as fast"
    share = (1 / network) / (1 / network + 1 / decode)  # the same cores do both, one after the other
    return f"the network takes {100 * share:.0f} % of a photo's time, decoding {100 - 100 * share:.0f} %"


def _changes(
    networks: dict[tuple[Precision, int], float], default: tuple[Precision, int], wholes: dict[int, float], jobs: int
) -> Iterator[str]:
    """Options that were faster than what happens without them; of those about as fast, the fewest."""
    fast = [way for way, rate in networks.items() if rate * _WORTH_SAYING >= max(networks.values())]
    best = min(fast, key=lambda way: (sum(map(operator.ne, way, default)), -networks[way]))
    ratio = networks[best] / networks[default]
    if best != default:
        names = ("--precision", "--batch-size")
        changed = (f"{name} {best[n]}" for n, name in enumerate(names) if best[n] != default[n])
        yield f"{' '.join(changed)} would make the network {ratio:.2f} times as fast"
    threads = max(wholes, key=lambda count: wholes[count])
    if wholes[threads] >= _WORTH_SAYING * wholes[jobs]:
        yield f"--jobs {threads} would make all of it {wholes[threads] / wholes[jobs]:.2f} times as fast"
    if best == default and wholes[threads] < _WORTH_SAYING * wholes[jobs]:
        yield f"no option was faster by {100 * _WORTH_SAYING - 100:.0f} % or more than the defaults"
