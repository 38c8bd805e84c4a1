"""What all commands share: how one is made, how it ends with an error, and the options of several."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from gendercls import __version__
from gendercls.errors import GenderclsError, InterruptedRunError

F = TypeVar("F", bound=Callable[..., Any])


class Commands(click.Group):
    """Turns our errors into their message and exit status; ``--debug`` shows the traceback as well."""

    is_whole_process = False
    """Whether the command was typed, so that the process is its own; not called by a program."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.leave: Callable[[int], object] = lambda status: None  # called with it before the interpreter ends

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _typed_words_shown():
            return super().parse_args(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        self.is_whole_process = not args and not kwargs
        try:
            return self._main(*args, **kwargs)
        except SystemExit as end:
            if end.code is None or isinstance(end.code, int):
                self.leave(end.code or 0)
            raise

    def _main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except GenderclsError as error:
            _end(error)
        except OSError as error:  # one that nobody foresaw, such as a path too long to be asked about
            file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
            _end(GenderclsError(error.strerror or str(error), where=file, do="repeat with --debug to see more"))


class Command(click.Command):
    """A missing argument is answered with an example of two lines; Ctrl-C is an interrupted run."""

    def __init__(self, *args: Any, examples: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            with _typed_words_shown():
                return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            if not self.examples:
                raise
            example = "\n  ".join(("For example:", *self.examples))
            raise click.UsageError(f"{error.format_message()}\n\n{example}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # while there was nothing yet to continue; click itself would exit with 1
            raise InterruptedRunError("interrupted") from None


def command(short_help: str, examples: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], Command]:
    """Make a command of a function. ``examples`` are two lines, for one that needs an argument."""
    return click.command(cls=Command, short_help=short_help, examples=examples)


@contextmanager
def _typed_words_shown() -> Iterator[None]:
    """click repeats what was typed, or what a ``*`` stood for, as it is."""
    try:
        yield
    except click.UsageError as error:
        from gendercls import console

        error.message = console.one_line(error.message)  # type: ignore[misc]
        raise


def _end(error: GenderclsError) -> NoReturn:
    from gendercls import console

    if "--debug" in sys.argv:
        import traceback

        click.echo(console.printable(traceback.format_exc()), err=True, nl=False)
    if leads():
        click.echo(f"Error: {console.printable(str(error))}", err=True)
    sys.exit(error.exit_status)


# --- what commands ask and tell ---------------------------------------------------------------------------------


def is_whole_process() -> bool:
    """Whether the command that runs was typed, and not called by a program."""
    typed = click.get_current_context().find_root().command
    return isinstance(typed, Commands) and typed.is_whole_process


def end_by(leave: Callable[[int], object]) -> None:
    """Call that with the exit status before the interpreter ends, of a command that was typed."""
    typed = click.get_current_context().find_root().command
    if isinstance(typed, Commands):
        typed.leave = leave


def leads() -> bool:
    """Whether this process speaks: the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def put_json(text: str) -> None:
    """JSON on stdout; what a terminal would obey is escaped, which is the same to a program."""
    import json

    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


# --- options ----------------------------------------------------------------------------------------------------


def everywhere(function: F) -> F:
    """The options that every command has."""
    debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
    return click.version_option(__version__, prog_name="gendercls")(debug(function))


PATH = click.Path(path_type=Path)
classes_option = click.option(
    "--classes", help="Class rules, or 'all' for every attribute by itself.  [default: 'female=!Male;male=Male']"
)
device_option = click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]")
