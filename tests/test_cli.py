"""The command line itself: examples, errors without a traceback, and errors that are not hidden."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from subprocess import CompletedProcess

import click
import pytest
from click.testing import CliRunner

from gendercls import errors
from gendercls.cli import main
from gendercls.cli.command import Command

Run = Callable[..., CompletedProcess[str]]
COMMANDS = sorted(main.commands)


@pytest.mark.parametrize(
    ("command", "missing", "lines"),
    [
        (
            ["classify"],
            "Missing argument 'PHOTOS…'.",
            [
                "gendercls classify ./photos --out preds.csv",
                "gendercls classify ./photos --out preds.csv --labels list_attr_celeba.txt",
            ],
        ),
        (
            ["classify", "photos"],
            "Missing option '--out'.",
            [
                "gendercls classify ./photos --out preds.csv",
                "gendercls classify ./photos --out preds.csv --labels list_attr_celeba.txt",
            ],
        ),
        (
            ["train"],
            "Missing argument 'DATA'.",
            [
                "gendercls train ./celeba --init imagenet",
                "gendercls train ./celeba --init weights.pt --set epochs=4 --out runs/first",
            ],
        ),
    ],
)
def test_a_missing_argument_is_answered_with_an_example(
    run_gendercls: Run, command: list[str], missing: str, lines: list[str]
) -> None:
    """A command without its needed argument exits 2, says what is missing and shows a two-line example."""
    done = run_gendercls(*command)
    assert (done.returncode, done.stdout) == (2, "")
    error = done.stderr[done.stderr.index("Error: ") :].splitlines()
    assert error == [f"Error: {missing}", "", "For example:", *(f"  {line}" for line in lines)]


def test_every_command_with_a_needed_argument_has_its_example() -> None:
    """A command that needs something also has an example of two lines; each example is a command that parses."""
    examples = {name: command.examples for name, command in main.commands.items() if isinstance(command, Command)}
    needy = {name for name, command in main.commands.items() if any(p.required for p in command.params)}
    assert needy == {name for name, lines in examples.items() if lines}
    for lines in filter(None, examples.values()):
        assert len(lines) == 2
        for _, name, *rest in map(str.split, lines):
            main.commands[name].make_context(name, rest, parent=click.Context(main, **main.context_settings))


def test_the_help_lists_every_command(run_gendercls: Run) -> None:
    """``--help`` names every command with a line on what it does, and nothing goes to stderr."""
    done = run_gendercls("--help")
    assert (done.returncode, done.stderr) == (0, "")
    listed = done.stdout[done.stdout.index("Commands:") :].splitlines()[1:]
    assert [line.split()[0] for line in listed] == COMMANDS
    assert all(len(line.split()) > 3 for line in listed)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_has_help_version_and_debug(command: list[str]) -> None:
    """``-h``, ``--help``, ``--version`` and ``--debug`` are there everywhere."""
    runner = CliRunner()
    shown = runner.invoke(main, [*command, "--version"])
    assert (shown.exit_code, shown.output) == (0, f"gendercls, version {version('gendercls')}\n")
    for option in ("-h", "--help"):
        shown = runner.invoke(main, [*command, option])
        assert shown.exit_code == 0
        assert "--debug" in shown.output


@pytest.mark.parametrize(
    ("command", "typed", "near"),
    [("info", "--jsn", "--json"), ("classify", "--outt", "--out"), ("train", "--sed", "--seed")],
)
def test_an_unknown_option_is_answered_with_the_nearest(command: str, typed: str, near: str) -> None:
    """click offers the near name of a misspelt option; the exit status is 2."""
    shown = CliRunner().invoke(main, [command, typed])
    assert shown.exit_code == 2
    error = shown.output.splitlines()[-1]
    assert re.fullmatch(rf"Error: No such option\W+{typed}\b.*(Did you mean|Possible options).*{near}\b.*", error)


def test_an_error_shows_no_traceback_but_with_debug(run_gendercls: Run, tmp_path: Path) -> None:
    """An error of ours is its message alone; ``--debug``, before the command or after it, shows where it came from."""
    missing = str(tmp_path / "no.onnx")
    plain = run_gendercls("info", missing)
    for typed in (("info", missing, "--debug"), ("--debug", "info", missing)):
        debug = run_gendercls(*typed)
        assert plain.returncode == debug.returncode == 1
        assert plain.stderr.startswith("Error: the model cannot be read: ")
        assert debug.stderr.startswith("Traceback (most recent call last):\n")
        assert debug.stderr.endswith(plain.stderr)


@pytest.mark.parametrize(
    "kind", [k for k in vars(errors).values() if isinstance(k, type)], ids=lambda kind: kind.__name__
)
def test_each_kind_of_error_has_its_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: type[errors.GenderclsError]
) -> None:
    """The exit status is the class's own, and what strangers wrote cannot steer the terminal."""

    def fail() -> None:
        raise kind("what", where="a\x1b[31mb\r", do="this")

    monkeypatch.setattr("gendercls.modelfile.shipped_model", fail)
    with pytest.raises(SystemExit) as caught:
        main(["info"])
    assert caught.value.code == kind.exit_status
    assert capsys.readouterr().err == "Error: what\n  where: a\\x1b[31mb\\r\n  do:    this\n"


@pytest.mark.parametrize("error", [ValueError("odd"), RuntimeError("odd"), KeyError("odd")])
def test_an_unexpected_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """What is no error of ours comes out as it is, with its traceback: it is a bug to be reported."""

    def fail() -> None:
        raise error

    monkeypatch.setattr("gendercls.modelfile.shipped_model", fail)
    with pytest.raises(type(error)) as caught:
        main(["info"])
    assert caught.value is error


def test_an_unexpected_error_ends_the_command_with_its_traceback(run_gendercls: Run, tmp_path: Path) -> None:
    """In a process of its own, too: status 1 and the traceback on stderr."""
    (tmp_path / "sitecustomize.py").write_text(
        "import gendercls.modelfile as m\ndef fail():\n    raise ValueError('odd')\nm.shipped_model = fail\n"
    )
    done = run_gendercls("info", env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert done.stderr.endswith("ValueError: odd\n")


def test_every_option_is_described() -> None:
    """Every option and every command has words of its own in the help."""
    for name, command in main.commands.items():
        assert command.help, name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help or option.metavar, f"{name} {option.name}"
