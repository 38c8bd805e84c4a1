"""Write docs/commands.md from the commands' own help: python docs/write_commands.py. A test fails when it is stale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from gendercls.cli import main

PAGE = Path(__file__).parent / "commands.md"
WIDTH = 100


def page() -> str:
    """The page as it should be."""
    return "\n".join(sections())


def sections() -> Iterator[str]:
    yield "# Commands\n"
    yield "Written by `python docs/write_commands.py` from `--help`.\n"
    yield from section(main, "gendercls", None)


def section(command: click.Command, title: str, parent: click.Context | None) -> Iterator[str]:
    """A command's help, then those of the commands below it."""
    context = click.Context(
        command, info_name=title.split()[-1], parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield f"## {title}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            yield from section(inner, f"{title} {name}", context)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
