"""Photos one at a time in a process of their own, on a worker, so that one which ends it costs its row alone.

It is for a cluster what `gendercls.guard` is for one machine. That one forks, which a worker must not: it has threads.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

from gendercls.classify.classifier import Prediction
from gendercls.classify.task import OPENING, Setup, Work, open_with, photos_of
from gendercls.detectorfile import DetectorFile
from gendercls.errors import GenderclsError, ModelError
from gendercls.guard import MOST_IN_A_ROW, end_with
from gendercls.modelfile import ModelFile

_OPEN = "open"


class _EndedError(Exception):
    """The other process died, or got nowhere. Its text says how."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the other process needs to open its classifier. setup: without Ray's references. node: the worker's own."""

    setup: Setup
    model: ModelFile | None
    detector: DetectorFile | None
    node: str


def one_by_one(reading: Reading, work: Work, done: int, most: int) -> Iterator[list[Prediction]]:
    """Predictions for the next photos of the work, after so many that are done, at most so many.

    Raises:
        GenderclsError: as the classifier and the work raise it; or it is not the photos that end the process.
    """
    lethal = 0
    while most > 0:
        with _Reader(reading, work, done, most) as reader:
            for predictions in reader.predictions():
                lethal, done, most = 0, done + 1, most - 1
                yield predictions
            if not reader.fault:
                return
            lethal, done, most = lethal + 1, done + 1, most - 1
            yield [Prediction(reader.key, "", 0.0, (), reader.fault)]
        if lethal == MOST_IN_A_ROW:
            raise GenderclsError(
                f"{lethal} photos in a row ended the process that read them; the last one {reader.fault}",
                where=reader.key,
                do="see that memory and the photos' disk are sound, and repeat the command, which continues",
            )


class _Reader:
    """The other process. key, fault: of the photo that ended it; both empty while none has."""

    def __init__(self, reading: Reading, work: Work, done: int, most: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.key = self.fault = ""
        self._patience = reading.setup.patience
        self._connection, theirs = spawn.Pipe()
        task = theirs, os.getpid(), reading, work, done, most
        self._process = spawn.Process(target=_read, args=task, daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def predictions(self) -> Iterator[list[Prediction]]:
        try:
            self._receive(max(OPENING, self._patience))
        except _EndedError as ended:
            raise ModelError(
                f"opening the model and its self-test {ended}",
                do="name another file, such as one made by gendercls export; one that is only slow needs a larger "
                "--photo-timeout",
            ) from None
        while True:
            try:
                key = self._receive(self._patience)
            except _EndedError as ended:
                raise GenderclsError(
                    f"listing the photos {ended}", do="repeat the command, which continues; see that they can be read"
                ) from None
            if key is None:
                return
            try:
                predictions = self._receive(self._patience)
            except _EndedError as ended:
                self.key, self.fault = key, str(ended)
                return
            yield predictions

    def _receive(self, patience: float) -> Any:
        """What the process says next. Raises the GenderclsError that it met, and _EndedError."""
        if not self._connection.poll(patience):
            raise _EndedError(f"took more than {patience:g} s")
        try:
            said = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise _EndedError(f"crashed ({self._signal()})") from None
        if isinstance(said, GenderclsError):
            raise said
        return said

    def _signal(self) -> str:
        status = self._process.exitcode or 0
        if status >= 0:
            raise GenderclsError(f"the process that reads photos ended by itself, with status {status}")
        return signal.Signals(-status).name


def _read(connection: Connection, worker: int, reading: Reading, work: Work, done: int, most: int) -> None:
    """What the process does. It names each photo before it touches it."""
    end_with(worker)
    try:
        classifier = open_with(reading.setup, reading.model, reading.detector, reading.node)
        connection.send(_OPEN)
        for photo in islice(photos_of(work, done), most):
            connection.send(photo.key)
            connection.send(classifier.one(photo)[0][1])
        connection.send(None)
    except GenderclsError as error:
        connection.send(error)
