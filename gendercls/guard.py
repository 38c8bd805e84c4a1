"""A process that stands guard over the one that works, so that a photo which kills the latter costs one row.

Decoders are C code that strangers' files go through. One that crashes or never ends takes its process with it. So the
command forks before anything heavy is loaded: the child works, the parent waits. When the child dies of a fault, or
gets nowhere for long, the parent forks again. The new child finds the rows that are there and goes through the photos
that were under way one by one; a photo that ends that child too is known by its number, and gets an error row.

A model is a stranger's file too, and a program: one that crashes as it is opened, never ends, or takes all the memory
that there is ends the command instead.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from gendercls.errors import GenderclsError, InterruptedRunError, ModelError

MOST_IN_A_ROW = 20
"""When so many photos end the process that reads them one after another, memory or the disk is at fault."""

_FAULTS = {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGSYS", "SIGTRAP", "SIGKILL"}
"""What ends a process that did not mean to end. SIGKILL is also the system's answer to memory that is short."""

_FROM_TERMINAL = 0x80  # SI_KERNEL of siginfo's si_code
_LOOK = 0.1  # seconds between two looks at the child's progress; a model takes less than a gigabyte meanwhile
_TO_END = 5.0  # seconds for a child that was asked to end
_PR_SET_PDEATHSIG = 1
_NONE_UNDER_WAY, _OPENING = -1, -2


class _Shared:
    """Whole numbers that all processes forked from here see."""

    _format = struct.Struct("q")

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count * self._format.size)

    def __getitem__(self, place: int) -> int:
        number: int = self._format.unpack_from(self._memory, place * self._format.size)[0]
        return number

    def __setitem__(self, place: int, number: int) -> None:
        self._format.pack_into(self._memory, place * self._format.size, number)


_NUMBER, _AHEAD, _TICKS, _KEPT = range(4)


@dataclass(frozen=True)
class Opening:
    """What a model may take until it is open and has passed its self-test.

    where: its file. memory: in bytes; an Inception-v3 takes 0.3 GB, and 0.8 for photos of 1,024 × 1,024 pixels, so that
    enough is left for CUDA's libraries.
    """

    where: str = "the model that comes with gendercls"
    seconds: float = 60.0
    memory: int = 4 << 30


@dataclass
class Watch:
    """What the working process and its guard know of each other.

    lethal: by a photo's number in the order of the work, why it must not be touched. careful: numbers of photos that
    are done one at a time. is_again: whether the process goes on for one that has died. began: when the first one did,
    in seconds of the monotonic clock. opening: what a model may take meanwhile.
    """

    lethal: dict[int, str] = field(default_factory=dict)
    careful: range = range(0)
    is_again: bool = False
    began: float = field(default_factory=time.monotonic)
    opening: Opening = Opening()
    _shared: _Shared = field(default_factory=lambda: _Shared(4))

    def __post_init__(self) -> None:
        self._shared[_KEPT] = -1
        self.rest()

    def reach(self, number: int, ahead: int) -> None:
        """The rows of all photos below that number are written; it, and at most ``ahead`` from it on, are under way."""
        self._shared[_NUMBER], self._shared[_AHEAD] = number, ahead

    def open(self) -> None:
        """The model is being opened."""
        self.reach(_OPENING, 0)

    def rest(self) -> None:
        """No photo is under way, nor the model being opened."""
        self.reach(_NONE_UNDER_WAY, 0)

    def tick(self) -> None:
        """Something was done. From any thread: a tick that gets lost is made up for by the next."""
        self._shared[_TICKS] += 1

    def kept_at_first(self, kept: int) -> int:
        """What the first of the working processes had found of an earlier run, given what this one has."""
        if self._shared[_KEPT] < 0:
            self._shared[_KEPT] = kept
        return self._shared[_KEPT]

    @property
    def under_way(self) -> tuple[int, int]:
        """What `reach` was told last; while no photo is under way 0 ahead of a number below 0."""
        return self._shared[_NUMBER], self._shared[_AHEAD]

    @property
    def progress(self) -> tuple[int, int]:
        """Differs from what it was before as soon as anything was done."""
        return self._shared[_NUMBER], self._shared[_TICKS]


def stand_guard(patience: float, most_in_a_row: int | None, tell: Callable[[str], None], opening: Opening) -> Watch:
    """Fork, and return in each child, which is to do the work. The parent ends as its last child does.

    Args:
        patience: seconds without any photo done after which a child is given up.
        most_in_a_row: when so many photos end a child one after another, the fault is taken not to be theirs; None
            for any number.
        tell: is given a line when a child had to be replaced.
        opening: what a child's models may take; one that takes more is given up.

    Raises:
        ModelError: in the parent; it is the model that ended a child.
        GenderclsError: in the parent; it is not photos that end the children.
        InterruptedRunError: in the parent; the child was asked to end and did not, or died of it.
    """
    if not hasattr(signal, "sigtimedwait"):  # on macOS and Windows nobody stands guard
        return Watch()
    # What this process was started to ignore, as nohup and shells do, is no request. SIGTERM is the child's to handle.
    asked = {kind for kind in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(kind) is not signal.SIG_IGN}
    asked.add(signal.SIGTERM)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, asked | {signal.SIGCHLD})
    watch, guard = Watch(opening=opening), os.getpid()
    while True:
        watch.rest()
        if signal.sigtimedwait(asked, 0) is not None:  # between one child's end and the next one's start
            raise InterruptedRunError("interrupted; rows are kept")
        child = os.fork()
        if child == 0:
            end_with(guard)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return watch
        _learn(watch, _wait(child, watch, patience, asked), most_in_a_row, tell)


def _wait(child: int, watch: Watch, patience: float, asked: set[signal.Signals]) -> str:
    """What was wrong with a child that did not end as it should; else this process ends as the child did."""
    seen, still, is_asked = watch.progress, 0.0, False
    while True:
        came = signal.sigtimedwait(asked | {signal.SIGCHLD}, _LOOK)
        if came is not None and came.si_signo in asked:
            is_asked, still = True, still if is_asked else 0.0
            # Ctrl-C reaches all processes in the terminal's foreground, the child too.
            if not (came.si_signo == signal.SIGINT and came.si_code == _FROM_TERMINAL):
                os.kill(child, came.si_signo)
        fault = _ended(child, os.WNOHANG)
        if fault is None and came is None:
            # Looks are counted, not the clock: while the machine sleeps nothing is a photo's fault.
            is_idle = watch.under_way[0] == _NONE_UNDER_WAY and not is_asked
            still = still + _LOOK if watch.progress == seen and not is_idle else 0.0
            seen = watch.progress
            is_opening = watch.under_way[0] == _OPENING
            most = watch.opening.seconds if is_opening else patience
            if still >= (min(most, _TO_END) if is_asked else most):
                fault = "did not end by itself" if is_asked else f"took more than {most:g} s"
            elif is_opening and _memory(child) > watch.opening.memory:
                fault = f"took more than {watch.opening.memory / 1e9:.1f} GB of memory"
            if fault is not None:
                os.kill(child, signal.SIGKILL)
                _ended(child, 0)
        if fault is not None:
            if is_asked:
                raise InterruptedRunError(f"interrupted; the process that worked {fault}; rows are kept")
            return fault


def _memory(process: int) -> int:
    """Bytes that a process holds for itself: neither libraries nor files that are mapped. 0 where no one tells."""
    try:
        _, resident, of_files, *_ = Path(f"/proc/{process}/statm").read_bytes().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(of_files)) * mmap.PAGESIZE


def _ended(child: int, how: int) -> str | None:
    """How a child died that did not mean to; None while it lives. If it ended otherwise, so does this process."""
    ended, status = os.waitpid(child, how)
    if not ended:
        return None
    if not os.WIFSIGNALED(status):
        os._exit(os.WEXITSTATUS(status))
    try:
        name = signal.Signals(os.WTERMSIG(status)).name
    except ValueError:  # one of those without a name
        name = ""
    if name not in _FAULTS:
        _die_of(os.WTERMSIG(status))
    return f"crashed ({name})"


def _learn(watch: Watch, fault: str, most_in_a_row: int | None, tell: Callable[[str], None]) -> None:
    """What the next child has to know of how the last one ended."""
    number, ahead = watch.under_way
    if number == _OPENING:
        raise ModelError(
            f"opening the model and its self-test {fault}",
            where=watch.opening.where,
            do="name another file, such as one made by gendercls export; one that is only slow needs a larger "
            "--photo-timeout; gendercls doctor examines the machine",
        )
    if number == _NONE_UNDER_WAY or number in watch.lethal:
        raise GenderclsError(
            f"the process that worked {fault}, while no photo was under way",
            do="repeat the command, which continues; if this happens again, gendercls doctor examines the machine",
        )
    if watch.is_again and number < watch.careful.start:  # a photo that went well before
        raise GenderclsError(
            f"photos end the process that read them which it had read before; the last time it {fault}",
            do="see that memory and the photos' disk are sound, and repeat the command, which continues",
        )
    if number in watch.careful:
        watch.lethal[number] = fault
        if most_in_a_row is not None and all(
            earlier in watch.lethal for earlier in range(number - most_in_a_row + 1, number)
        ):
            raise GenderclsError(
                f"{most_in_a_row} photos in a row ended the process that read them; the last one {fault}",
                do="see that memory and the photos' disk are sound, and repeat the command, which continues",
            )
        tell(f"a photo {fault}: its row says so")
    else:
        first = number
        while first - 1 in watch.lethal:  # the last of the rows that are there is done again
            first -= 1
        watch.careful = range(first, number + ahead)
        tell(f"the process that worked {fault}: going on with one photo at a time")
    watch.is_again = True


def _die_of(kind: int) -> NoReturn:
    signal.signal(kind, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {kind})
    os.kill(os.getpid(), kind)
    os._exit(128 + kind)  # the first process of a container does not die of a signal


def end_with(guard: int) -> None:
    """Let the system kill this process when its guard is gone, so that nobody works unseen and holds the output."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guard:  # it was gone before
        os._exit(1)
