"""`Cluster`: photos in, predictions out, as `Classifier` has it, but answered for by the workers of a Ray cluster.

Tasks go out, and what comes back is put in order again. Ray decides where a task runs, starts the workers, and grows
the cluster while tasks wait. The one process that sends them writes the rows, so a run that is killed goes on as one on
a single machine does. A task is a second's work and is sent again when its worker or its node dies; a worker keeps its
model open from one to the next.
"""

from __future__ import annotations

import importlib
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from gendercls import __version__
from gendercls.answers import Answers as ModelAnswers
from gendercls.classify import node
from gendercls.classify.classifier import Prediction
from gendercls.classify.connection import ray_module
from gendercls.classify.options import check_numbers
from gendercls.classify.pipeline import MOST_HELD, chunks_of
from gendercls.classify.session import Device
from gendercls.classify.task import Opened, Setup, Work
from gendercls.classify.whole import Whole
from gendercls.detectorfile import DetectorFile, read_detector
from gendercls.errors import GenderclsError, ModelError, PhotoError, UsageError, one_line
from gendercls.modelfile import Precision, read_model_file, shipped_model
from gendercls.sources import Photo, Unreadable
from gendercls.spec import ModelSpec

_MISSING = "cannot be read: No such file or directory"
_TRIES = 20
"""How often a task is sent again whose nodes die before anything came back."""

_CRASHES = 3
"""How often a task may end its worker while its photos are read elsewhere, one by one."""

_WAIT = 600.0
"""Seconds for the first worker: a cluster that grows from nothing needs minutes."""

_LOOK = 1.0
"""Seconds between two looks at how large the cluster is."""


@dataclass(frozen=True, slots=True)
class Session:
    """How all workers have opened the model."""

    device: Device
    batch_size: int


@dataclass(frozen=True, slots=True)
class Detector:
    """The face detector that all workers have. file: without its bytes."""

    file: DetectorFile


@dataclass(slots=True)
class _Piece:
    """A task's work, and how far it is.

    held: bytes in memory until it is done. done: photos whose answers came. found: those that have not been given out
    yet. stream: of its task's answers. is_over: whether all came.
    """

    work: Work
    held: int = 0
    done: int = 0
    found: deque[list[tuple[Photo, list[Prediction]]]] = field(default_factory=deque)
    stream: Any = None
    is_over: bool = False
    is_careful: bool = False
    losses: int = 0
    crashes: int = 0


class Cluster:
    """A model that the workers of the `connected` cluster have opened; answers as `Classifier` does.

    Args:
        options: of `Classifier`; ``jobs`` are the cores that a task takes, by default one, or a GPU's share.
        patience: seconds for a photo, after which it gets an error row.

    Raises:
        GenderclsError: as `Classifier` does, and where workers differ or none is to be had.
    """

    def __init__(self, options: Mapping[str, Any], patience: float) -> None:
        self._ray = ray_module()
        self._errors = importlib.import_module("ray.exceptions")
        check_numbers(*(options[name] for name in ("jobs", "batch_size", "min_face", "max_faces")))
        path, device = options["model"], options["device"]
        if device.startswith("cuda:"):
            raise UsageError("Ray chooses the GPU", where=f"--device {device}", do="--device cuda")
        file = read_model_file(Path(path)) if path is not None else None
        detector = read_detector(options["face_model"]) if options["faces"] else None
        given = {name: value for name, value in options.items() if name not in ("model", "face_model")}
        gpus = int(device == "cuda" or (device == "auto" and self._resources("GPU") >= 1))
        self._cores = given["jobs"] = options["jobs"] or self._share_of_cores(gpus)
        setup = Setup(
            uuid.uuid4().hex,
            given if file is None else given | {"precision": None},
            None if file is None else self._ray.put(file),
            None if detector is None else self._ray.put(detector),
            os.getcwd(),
            patience,
        )
        first = self._open_first(setup, gpus)
        if file is None:
            file = read_model_file(shipped_model(cast("Precision", first.precision)))
            if file.sha256 != first.sha256:
                raise ModelError(
                    "the nodes of the cluster have another model than this machine",
                    where=f"{file.path} is not what {first.node} has",
                    do="install the same gendercls on all of them",
                )
        self._gpus = int(first.device != "cpu")
        resolved = {"device": first.device, "batch_size": first.batch_size, "precision": None}
        self._setup = replace(setup, options=given | resolved, model=self._ray.put(file), first=first)
        self._task = self._remote(node.answer, self._gpus, num_returns="streaming")
        self._size, self._looked = 1, 0.0
        self.model = replace(file, data=b"")
        self.detector = Detector(replace(detector, data=b"")) if detector is not None else None
        self.session = Session(Device(first.device, first.why_not_cuda), first.batch_size)
        self.threshold, self.versions = first.threshold, first.versions
        self.min_face: int = options["min_face"]
        self.max_faces: int | None = options["max_faces"]
        self.answers: ModelAnswers = self.spec.answers
        self.tick: Callable[[], None] = lambda: None

    @property
    def spec(self) -> ModelSpec:
        return self.model.spec

    @property
    def device(self) -> str:
        return self.session.device.name

    @property
    def ahead(self) -> int:
        """How many photos are under way at the most, wholes not counted."""
        return self._window() * self._chunk

    def one(self, photo: Photo) -> list[tuple[Photo, list[Prediction]]]:
        """As `chunks` gives one photo."""
        return next(self.chunks((photo,)))

    def chunks(self, photos: Iterable[Photo]) -> Iterator[list[tuple[Photo, list[Prediction]]]]:
        """Photos with their predictions, in order; of a `Whole` among them those that it stands for."""
        pieces = self._pieces(photos)
        window: deque[_Piece] = deque()
        while True:
            while len(window) < self._window() and sum(piece.held for piece in window) < MOST_HELD:
                piece = next(pieces, None)
                if piece is None:
                    break
                self._send(piece)
                window.append(piece)
            if not window:
                return
            self._receive(window)
            while window:
                while window[0].found:
                    yield window[0].found.popleft()
                if not window[0].is_over:
                    break
                window.popleft()

    @property
    def _chunk(self) -> int:
        return node.GROUP * self.session.batch_size

    def _pieces(self, photos: Iterable[Photo]) -> Iterator[_Piece]:
        """What tasks are about: photos in a row, and wholes."""
        stream = iter(photos)
        whole: list[Whole] = []

        def until_whole() -> Iterator[Photo]:
            for photo in stream:
                if isinstance(photo, Whole):
                    whole.append(photo)
                    return
                yield photo

        while True:
            for chunk, held in chunks_of(until_whole(), self._chunk, lambda photo: photo.held):
                yield _Piece(chunk, held)
            if not whole:
                return
            yield _Piece(whole.pop())

    def _send(self, piece: _Piece) -> None:
        piece.stream = self._task.remote(self._setup, piece.work, piece.done, piece.is_careful)

    def _receive(self, window: Iterable[_Piece]) -> None:
        """Wait until something comes from a task, and take what is there."""
        by_stream = {piece.stream: piece for piece in window if not piece.is_over}
        streams = list(by_stream)
        ready, _ = self._ray.wait(streams, num_returns=1, timeout=_LOOK)
        if ready:
            ready, _ = self._ray.wait(streams, num_returns=len(streams), timeout=0)
        for stream in ready:
            self._take(by_stream[stream])

    def _take(self, piece: _Piece) -> None:
        """What came from a task: answers, its end, or what became of its worker."""
        errors = self._errors
        try:
            answers = self._ray.get(next(piece.stream))
        except StopIteration:
            piece.is_careful = False  # the photos that had been under way are done
            self._send(piece)
        except (errors.NodeDiedError, errors.ObjectLostError):
            piece.losses += 1
            if piece.losses > _TRIES:
                raise self._lost(piece, f"{piece.losses} nodes died one after another") from None
            self._send(piece)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
            piece.crashes += 1
            if piece.crashes > _CRASHES:
                raise self._lost(piece, f"workers die again and again: {one_line(error)}") from None
            piece.is_careful = True
            self._send(piece)
        except errors.RayError as error:
            raise _what_a_task_met(error) from None
        else:
            piece.losses = piece.crashes = 0
            self._keep(piece, answers)

    def _keep(self, piece: _Piece, answers: node.Answers) -> None:
        if isinstance(piece.work, Whole):
            photos: Iterable[Photo] = [Unreadable(found[0].key, found[0].key, "read") for found in answers.found]
        else:
            photos = piece.work[piece.done : piece.done + len(answers.found)]
        chunk = list(zip(photos, answers.found, strict=True))
        self._check_seen(piece.work, chunk, answers.node)
        piece.done += len(chunk)
        piece.found.append(chunk)
        piece.is_over = answers.is_last

    def _check_seen(self, work: Work, chunk: list[tuple[Photo, list[Prediction]]], name: str) -> None:
        """Raises GenderclsError where a node has none of some photos that are there for this machine."""
        if not chunk or any(predictions[0].error != _MISSING for _, predictions in chunk):
            return
        if isinstance(work, Whole):
            is_here = _is_there(lambda: work.source.file.read(0, 1))
        else:
            is_here = _is_there(chunk[0][0].read)
        if is_here:
            raise GenderclsError(
                "a node of the cluster does not have the photos",
                where=f"{name} has no {chunk[0][0].key}",
                do="put them where all nodes find them by the same path, or in a bucket",
            )

    def _open_first(self, setup: Setup, gpus: int) -> Opened:
        task = self._remote(node.open_first, gpus)
        for _ in range(_TRIES):
            try:
                first: Opened = self._ray.get(task.remote(setup, __version__), timeout=_WAIT)
                return first
            except (self._errors.NodeDiedError, self._errors.ObjectLostError):
                continue
            except (self._errors.WorkerCrashedError, self._errors.OutOfMemoryError) as error:
                raise ModelError(
                    f"opening the model and its self-test ended a worker: {one_line(error)}",
                    do="name another file, such as one made by gendercls export; gendercls doctor examines a machine",
                ) from None
            except self._errors.GetTimeoutError:
                break
            except self._errors.RayError as error:
                raise _what_a_task_met(error) from None
        raise GenderclsError(
            f"no worker of the cluster could begin within {_WAIT:.0f} s",
            where=f"a task takes {self._cores} cores and {gpus} GPUs",
            do="see with ray status that it has them, and that they are free",
        )

    def _remote(self, function: Callable[..., Any], gpus: int, **more: Any) -> Any:
        if gpus:
            more["max_calls"] = 0  # a worker that has used a GPU would otherwise end, and its model be opened anew
        return self._ray.remote(num_cpus=self._cores, num_gpus=gpus, max_retries=0, **more)(function)

    def _window(self) -> int:
        """Tasks to have under way: more than there is room for, so that none waits for this process, and Ray sees
        that a larger cluster would have work."""
        if time.monotonic() - self._looked > _LOOK:
            self._size = max(1, int(self._resources("GPU") if self._gpus else self._resources("CPU") / self._cores))
            self._looked = time.monotonic()
        return 2 * self._size + 2

    def _share_of_cores(self, gpus: int) -> int:
        return max(1, int(self._resources("CPU") // max(1.0, self._resources("GPU")))) if gpus else 1

    def _resources(self, kind: str) -> float:
        return float(self._ray.cluster_resources().get(kind, 0.0))

    def _lost(self, piece: _Piece, what: str) -> GenderclsError:
        work = piece.work
        return GenderclsError(
            what,
            where=f"{work.key if isinstance(work, Whole) else work[0].key} and the photos after it",
            do="see that the nodes have memory and stay up, and repeat the command, which continues",
        )


def _is_there(read: Callable[[], object]) -> bool:
    try:
        read()
    except PhotoError:
        return False
    return True


def _what_a_task_met(error: Any) -> GenderclsError:
    cause = getattr(error, "cause", None)
    if isinstance(cause, GenderclsError):
        return cause
    return GenderclsError(
        f"a worker of the cluster failed: {one_line(cause or error)}",
        do="install the same gendercls on all nodes, with its libraries; --debug shows more",
    )
