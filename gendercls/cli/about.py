"""The commands about what is here: a model, the machine, the face detector."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from gendercls.cli.command import PATH, Command, command, everywhere, put_json


@command(short_help="What a model file says of itself.")
@click.argument("model", type=PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the whole spec as JSON.")
@everywhere
def info(model: Path | None, as_json: bool) -> None:
    """Say what MODEL (by default the shipped one) was trained on, how right it is, and what its data allows."""
    from gendercls import console
    from gendercls.console import about
    from gendercls.modelfile import read_model_file, shipped_model

    found = read_model_file(model or shipped_model())
    if found.warning:
        console.warn(found.warning)
    if as_json:
        put_json(found.to_json())
        return
    about.show_info(found.spec, str(found.path), found.sha256)


@command(short_help="What this machine has and lacks, and how fast it is.")
@click.argument("photos", nargs=-1, metavar="[PHOTOS]…")
@everywhere
def doctor(photos: tuple[str, ...]) -> None:
    """Say what this machine has and lacks, and run the shipped model's self-test.

    With PHOTOS (folders or files) also how fast it classifies them, what limits that, and which option would change it:
    the first 256 are tried for about a minute, from memory once they have been read, and nothing is written.
    """
    from gendercls.console import about
    from gendercls.doctor import examine

    findings = examine()
    about.show_findings(findings)
    if photos:
        from gendercls.classify.speed import measure

        with about.measuring() as tell:
            measured = measure(photos, tell)
        about.show_speed(measured)
    if any(finding.is_good is False for finding in findings):
        sys.exit(1)


@click.group(short_help="The face detector that --faces needs.")
@everywhere
def faces() -> None:
    """The face detector that classify --faces needs; it comes from its authors and not with gendercls."""


@faces.command(cls=Command, short_help="Get it, once.")
@click.option("--from", "source", metavar="URL", help="Another place that has the same file.")
@everywhere
def download(source: str | None) -> None:
    """Get the face detector YuNet (0.3 MB, Apache-2.0) from its authors' repository into your own data folder.

    It is kept only if it is the very file that gendercls was tested with.
    """
    from gendercls import console
    from gendercls.detectorfile import SOURCE, download_detector

    path, was_fetched = download_detector(source or SOURCE)
    console.note(f"face detector: {path}" + ("" if was_fetched else " (there already)"))
