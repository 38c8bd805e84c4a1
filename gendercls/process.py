"""A typed command as a process: its signals, its guard, and the words that continue it."""

from __future__ import annotations

import atexit
import contextlib
import os
import shlex
import signal
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from gendercls.errors import GenderclsError, InterruptedRunError, UsageError
from gendercls.guard import MOST_IN_A_ROW, Opening, Watch, stand_guard

_MEMORY_PER_BYTE = 16
"""Of a model's file: weights in 4 bits are 8 times as large once they are open, and are held twice for a while."""


def guarded(patience: float, models: Sequence[Path | None], *, quiet: bool, is_retry: bool) -> Watch:
    """From here on in a process that may die of a photo: another one sees to it that the work goes on.

    Args:
        patience: seconds for a photo.
        models: the files to be opened, None for one of gendercls' own.

    Raises as `stand_guard` does, in the other process.
    """
    given, own = [path for path in models if path is not None], Opening()
    size = sum(os.path.getsize(path) for path in given if os.path.isfile(path))
    opening = Opening(
        where=" and ".join(map(str, given)) or own.where,
        seconds=max(patience, own.seconds),
        memory=own.memory + _MEMORY_PER_BYTE * size,
    )

    def tell(line: str) -> None:
        if not quiet:
            click.echo(f"{_clean_line()}gendercls: {line}", err=True)

    try:
        return stand_guard(patience, None if is_retry else MOST_IN_A_ROW, tell, opening)
    except InterruptedRunError as error:
        error.do = "continue with: " + this_command()
        click.echo(_clean_line(), err=True, nl=False)
        raise
    except GenderclsError:
        click.echo(_clean_line(), err=True, nl=False)
        raise


def leave(status: int) -> None:
    """End a process that works for a guard at once.

    To take the interpreter, onnxruntime and the model apart is longer work than to classify a photo, and the system
    frees it all by itself. What is registered for the end is done, and what is written goes out first.
    """
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):  # whoever read it is gone, of which the interpreter tells in its own way
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as where it was closed from the start
                stream.flush()
        os._exit(status)


def hold_input(photos: Sequence[str]) -> None:
    """Keep what is piped in as a list, so that it can be read more than once, and by each process that a guard starts.

    Raises UsageError where there is nothing to read from.
    """
    if "@-" not in photos or stat.S_ISREG(os.fstat(0).st_mode):
        return
    if os.isatty(0):
        raise UsageError(
            "@- is a list that is piped in, and nothing is", where="@-", do="as in: find . -name '*.jpg' | gendercls …"
        )
    import shutil
    import tempfile

    with tempfile.TemporaryFile() as kept:  # it has no name, so it goes with the last process that has it open
        shutil.copyfileobj(sys.stdin.buffer, kept, 1 << 20)
        kept.flush()
        os.dup2(kept.fileno(), 0)


def _clean_line() -> str:
    """What undoes a progress line that its process left in the terminal, with the cursor hidden."""
    return "\r\x1b[2K\x1b[?25h" if sys.stderr.isatty() else ""


def interrupt_when_asked() -> None:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt from here on, unless Ctrl-C was ignored when the process began."""
    for kind in (signal.SIGINT, signal.SIGTERM):
        if kind == signal.SIGTERM or signal.getsignal(kind) is not signal.SIG_IGN:
            signal.signal(kind, _interrupt)


def _interrupt(*_: object) -> None:
    """Once: whoever sends a signal to all processes has it forwarded by the guard too."""
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)
    raise KeyboardInterrupt


def stop_when_asked() -> Callable[[], bool]:
    """Whether Ctrl-C or SIGTERM came; the second time it ends at once.

    One of each is no second time: on Ctrl-C torchrun sends SIGTERM after what the terminal sent.
    """
    asked: set[int] = set()

    def stop(number: int, _: object) -> None:
        if number in asked:
            raise InterruptedRunError("interrupted before the state could be saved")
        asked.add(number)

    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, stop)
    return lambda: bool(asked)


def this_command(*more: str) -> str:
    """The command as it was typed, with what has to be added to it; ``--restart`` would lose what is there."""
    typed = [word for word in sys.argv[1:] if word != "--restart"]
    added = [word for word in more if word not in typed] if "--out" in typed else list(more)
    return shlex.join(["gendercls", *typed, *added])
