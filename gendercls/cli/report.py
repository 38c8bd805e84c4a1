"""The commands that take a CSV which classify wrote: report, sample, compare, verify, sort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gendercls.cli.command import PATH, command, everywhere, put_json
from gendercls.errors import InterruptedRunError, MismatchError, UsageError


@command(
    short_help="A CSV of predictions, or a training run → one HTML page.",
    examples=(
        "gendercls report preds.csv --labels list_attr_celeba.txt --photos ./photos",
        "gendercls report runs/first --out first.html",
    ),
)
@click.argument("source", type=PATH, metavar="PREDS.csv|RUN")
@click.option("--labels", type=PATH, help="CelebA, FairFace, a CSV, class folders, or labels.csv of a sheet.")
@click.option("--out", type=PATH, help="The HTML file to write.  [default: beside the CSV, or in the run]")
@click.option("--photos", type=PATH, metavar="DIR", help="Show photos from there.  [default: of a CSV none]")
@click.option("--no-thumbnails", "thumbnails", is_flag=True, flag_value=False, default=True, help="Show no photos.")
@click.option(
    "--label-noise", type=click.FloatRange(0, 1), metavar="RATE", help="Say what accuracy means if so many labels err."
)
@click.option("--force", is_flag=True, help="Replace an existing page.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON on stdout.")
@everywhere
def report(as_json: bool, **values: Any) -> None:
    """Write one HTML page about a CSV that classify wrote, or about the folder of a training run, finished or not.

    It needs no network and nothing beside it to be read. Photos of people become part of it where they are shown: share
    it only where the law and the licence of the photos allow that.
    """
    from gendercls import console
    from gendercls.console import reported
    from gendercls.report.run import ReportOptions
    from gendercls.report.run import report as run_report

    result = run_report(ReportOptions(**values), console.note)
    if as_json:
        put_json(result.to_json())
    reported.show_report(result)


@command(
    short_help="A preds.csv → a page to label some of it by hand.",
    examples=(
        "gendercls sample preds.csv --out sheet.html",
        "gendercls sample preds.csv --out sheet.html --n 400 --photos ./photos",
    ),
)
@click.argument("preds", type=PATH, metavar="PREDS")
@click.option("--out", type=PATH, required=True, help="The HTML file to write.")
@click.option("--photos", type=PATH, metavar="DIR", help="Where the photos lie.  [default: where the run found them]")
@click.option("--n", "count", type=click.IntRange(min=1), default=200, show_default=True, help="How many to label.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of the draw and the order.")
@click.option("--show-answers", is_flag=True, help="Show what the model says: labels are then not blind.")
@click.option("--force", is_flag=True, help="Replace an existing page.")
@everywhere
def sample(**values: Any) -> None:
    """Draw photos, or faces, of PREDS, a CSV by gendercls classify, and write a page on which a person labels them.

    The page needs no network and gives a labels.csv for gendercls report --labels, with the weight of each label. It
    holds the photos: share it only with those who may see them.
    """
    from gendercls import console
    from gendercls.console import drawn
    from gendercls.report.sheet import SampleOptions
    from gendercls.report.sheet import sample as run_sample

    options = SampleOptions(**values)
    drawn.show_sample(run_sample(options, console.note), options.preds)


@command(
    short_help="Two CSVs of the same photos → what changed, and where.",
    examples=(
        "gendercls compare fp32.csv int8.csv",
        "gendercls compare last-year.csv this-year.csv --labels list_attr_celeba.txt --out changed.csv",
    ),
)
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--labels", type=PATH, help="CelebA, FairFace, a CSV or class folders.  [default: the CSVs' own truth]")
@click.option("--out", type=PATH, metavar="CSV", help="Write every changed prediction there.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--json", "as_json", is_flag=True, help="Print all numbers as JSON on stdout.")
@everywhere
def compare(as_json: bool, **values: Any) -> None:
    """Say how FIRST and SECOND differ, two CSVs by gendercls classify: of two models, two precisions, two years.

    With labels also which is right more often, whether that is more than chance, and for which groups.
    """
    from gendercls.console import checked
    from gendercls.report.compare import CompareOptions
    from gendercls.report.compare import compare as run_compare

    found = run_compare(CompareOptions(**values))
    if as_json:
        put_json(found.to_json())
    checked.show_comparison(found)


@command(
    short_help="Whether a CSV is what its model says.",
    examples=(
        "gendercls verify preds.csv",
        "gendercls verify preds.csv --photos ./photos --sample 200",
    ),
)
@click.argument("preds", type=PATH, metavar="PREDS")
@click.option("--photos", type=PATH, metavar="DIR", help="Where the photos lie.  [default: where the run found them]")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Read only N photos again, drawn at random.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of the draw.")
@click.option("--model", type=PATH, help="The run's model.  [default: the shipped one, if it was that]")
@click.option("--face-model", type=PATH, help="The run's face detector.  [default: what faces download got]")
@click.option("--device", metavar="auto|cpu|cuda[:N]", help="Where to classify.  [default: as the run]")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON on stdout.")
@everywhere
def verify(as_json: bool, **values: Any) -> None:
    """Read the photos of PREDS, a CSV by gendercls classify, again, run its model, and compare.

    Every row must also follow from its own numbers, and every file of the folder have one. A mismatch exits with 1.
    """
    from gendercls import process
    from gendercls.classify.verify import VerifyOptions
    from gendercls.classify.verify import verify as run_verify
    from gendercls.console import checked, classified

    process.interrupt_when_asked()
    with classified.classify_progress(quiet=False) as report:
        found = run_verify(VerifyOptions(**values), report)
    if as_json:
        put_json(found.to_json())
    checked.show_verdict(found)
    if not found.is_match:
        raise MismatchError(
            "the CSV is not what its model says of these photos",
            where=str(found.preds),
            do="restore the CSV or the photos from a copy, or classify the photos again",
        )


@command(
    short_help="Photos → a folder for each class, as links or copies.",
    examples=(
        "gendercls sort preds.csv --photos ./photos --into ./sorted",
        "gendercls sort --undo ./sorted/sorted.csv",
    ),
)
@click.argument("preds", type=PATH, metavar="PREDS")
@click.option("--photos", type=PATH, metavar="DIR", help="Where the photos lie.  [default: where the run found them]")
@click.option("--into", type=PATH, metavar="DIR", help="Where the folders go; made if need be.")
@click.option("--link/--copy", "is_link", default=True, help="Symbolic links, or whole copies.  [default: link]")
@click.option("--undo", is_flag=True, help="Take back what PREDS says was made: the sorted.csv of an earlier sort.")
@everywhere
def sort(preds: Path, photos: Path | None, into: Path | None, is_link: bool, undo: bool) -> None:
    """Make a link to each photo of PREDS, a CSV by gendercls classify, in a folder of its class.

    Others go to uncertain, failed, no-face and, with faces of different labels, several. Nothing is moved or replaced;
    sorted.csv lists what was made, so that it can be taken back.
    """
    import shlex

    from gendercls import process
    from gendercls.console import checked

    process.interrupt_when_asked()
    if undo:
        from gendercls.report.sorted_list import undo as run_undo

        checked.show_undone(run_undo(preds))
        return
    from gendercls.report.sort import SortOptions
    from gendercls.report.sort import sort as run_sort

    if into is None:
        raise UsageError("nobody said where the folders go", where="--into", do="name a folder: --into DIR")
    try:
        with checked.sort_progress() as report:
            found = run_sort(SortOptions(preds, into, photos, "link" if is_link else "copy"), report)
    except InterruptedRunError as error:
        error.do = "continue with: " + process.this_command()
        raise
    checked.show_sorted(found, shlex.join(["gendercls", "sort", "--undo", str(into / "sorted.csv")]))
