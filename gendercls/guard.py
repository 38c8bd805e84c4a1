"""A process that stands guard over the one that works, so that a photo which kills the latter costs one row.

Decoders are C code that strangers' files go through. One that crashes or never ends takes its process with it. So the
command forks before anything heavy is loaded: the child works, the parent waits. When the child dies of a fault, or
gets nowhere for long, the parent forks again. The new child finds the rows that are there and goes through the photos
that were under way one by one; a photo that ends that child too is known by its number, and gets an error row.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

from gendercls.errors import GenderclsError, InterruptedRunError

_FAULTS = {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT", "SIGSYS", "SIGTRAP", "SIGKILL"}
"""What ends a process that did not mean to end. SIGKILL is also the system's answer to memory that is short."""

_FROM_TERMINAL = 0x80  # SI_KERNEL of siginfo's si_code: the terminal sends to all processes in the foreground
_LOOK = 1.0  # seconds between two looks at the child's progress
_TO_END = 5.0  # seconds for a child that was asked to end
_MOST_IN_A_ROW = 20
"""When so many photos end a process one after another, the fault is not theirs."""

_PR_SET_PDEATHSIG = 1
_NONE_UNDER_WAY = -1
_STATE = struct.Struct("qq")


@dataclass
class Watch:
    """What the working process and its guard know of each other.

    lethal: by a photo's number in the order of the work, why it must not be touched. careful_until: photos below that
    number are done one at a time. is_again: whether the process goes on for one that has died.
    """

    lethal: dict[int, str] = field(default_factory=dict)
    careful_until: int = 0
    is_again: bool = False
    _shared: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, _STATE.size))

    def __post_init__(self) -> None:
        self.rest()

    def reach(self, number: int, ahead: int) -> None:
        """The rows of all photos below that number are written; it, and at most ``ahead`` from it on, are under way."""
        _STATE.pack_into(self._shared, 0, number, ahead)

    def rest(self) -> None:
        """No photo is under way."""
        self.reach(_NONE_UNDER_WAY, 0)

    @property
    def state(self) -> tuple[int, int]:
        """What `reach` was told last; -1 and 0 while no photo is under way."""
        number, ahead = _STATE.unpack_from(self._shared)
        return number, ahead


def stand_guard(patience: float, tell: Callable[[str], None]) -> Watch:
    """Fork, and return in each child, which is to do the work. The parent ends as its last child does.

    Args:
        patience: seconds of a child without any photo done after which it is given up.
        tell: is given a line when a child had to be replaced.

    Raises:
        GenderclsError: in the parent; it is not photos that end the children.
        InterruptedRunError: in the parent; the child was asked to end and did not.
    """
    if not hasattr(signal, "sigtimedwait"):  # on macOS and Windows nobody stands guard
        return Watch()
    watch = Watch()
    asked = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, asked | {signal.SIGCHLD})
    while True:
        watch.rest()
        child = os.fork()
        if child == 0:
            _end_with(os.getppid())
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return watch
        fault = _wait(child, watch, patience, asked)
        _learn(watch, fault, tell)


def _wait(child: int, watch: Watch, patience: float, asked: set[signal.Signals]) -> str:
    """What was wrong with a child that did not end as it should; else this process ends as the child did."""
    seen, still = watch.state, 0.0
    is_asked = False
    while True:
        came = signal.sigtimedwait(asked | {signal.SIGCHLD}, _LOOK)
        if came is not None and came.si_signo in asked:
            is_asked, still = True, 0.0
            if came.si_code != _FROM_TERMINAL:
                os.kill(child, came.si_signo)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return _fault(status) or _end_as(status)
        if came is not None:
            continue
        # Looks are counted, not the clock: while the machine sleeps nothing is a photo's fault.
        still = still + _LOOK if watch.state == seen and (is_asked or seen[0] != _NONE_UNDER_WAY) else 0.0
        seen = watch.state
        if still >= (min(patience, _TO_END) if is_asked else patience):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            if is_asked:
                raise InterruptedRunError(
                    "interrupted, while a photo would not end; rows are kept", do="repeat the command to continue"
                )
            return f"took more than {patience:g} s"


def _learn(watch: Watch, fault: str, tell: Callable[[str], None]) -> None:
    """What the next child has to know of how the last one ended."""
    number, ahead = watch.state
    if number == _NONE_UNDER_WAY:
        raise GenderclsError(
            f"the process that worked {fault}, while no photo was under way",
            do="repeat the command, which continues; if this happens again, gendercls doctor examines the machine",
        )
    if number >= watch.careful_until:
        watch.careful_until = number + ahead
        tell(f"the process that worked {fault}: going on with one photo at a time")
    else:
        watch.lethal[number] = fault
        if all(earlier in watch.lethal for earlier in range(number - _MOST_IN_A_ROW + 1, number)):
            raise GenderclsError(
                f"{_MOST_IN_A_ROW} photos in a row ended the process that read them; the last one {fault}",
                do="see that memory and the photos' disk are sound, and repeat the command, which continues",
            )
        tell(f"a photo {fault}: its row says so")
    watch.is_again = True


def _fault(status: int) -> str:
    """How a child died that did not mean to; empty if it ended by itself or was asked to."""
    if not os.WIFSIGNALED(status):
        return ""
    name = signal.Signals(os.WTERMSIG(status)).name
    return f"crashed ({name})" if name in _FAULTS else ""


def _end_as(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        kind = os.WTERMSIG(status)
        signal.signal(kind, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {kind})
        os.kill(os.getpid(), kind)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _end_with(parent: int) -> None:
    """Let the system kill this process when its parent is gone, so that nobody works unseen and holds the output."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before
        os._exit(1)
