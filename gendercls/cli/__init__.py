"""The commands: parse, call one function, print; nothing else. Heavy things are imported inside a command."""

from __future__ import annotations

import warnings

import click

from gendercls.cli import about, classify, report, train
from gendercls.cli.command import Commands, everywhere


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@everywhere
def main() -> None:
    """Say how each face in a folder of photos would likely be perceived, and how sure that is.

    Labels are perceived, binary and noisy: they describe a labeller's impression of a photo, never who a person is.
    """
    # Pillow warns of odd files on stderr; what matters of that is in the file's row.
    warnings.filterwarnings("ignore", module=r"PIL\.")


for one in (
    *(classify.classify, classify.merge),
    *(train.train, train.audit, train.export),
    *(report.report, report.sample, report.compare, report.verify, report.sort),
    *(about.info, about.doctor, about.faces),
):
    main.add_command(one)
