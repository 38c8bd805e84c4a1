"""The commands: parse, call one function, print; nothing else. Heavy things are imported inside a command."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from gendercls import __version__
from gendercls.address import Address, is_url
from gendercls.errors import GenderclsError, InterruptedRunError, MismatchError, PhotosFailedError, UsageError

if TYPE_CHECKING:
    from gendercls.labels import ClassRule

F = TypeVar("F", bound=Callable[..., Any])

EXAMPLES = {
    "classify": (
        "gendercls classify ./photos --out preds.csv",
        "gendercls classify ./photos --out preds.csv --labels list_attr_celeba.txt",
    ),
    "train": (
        "gendercls train ./celeba --init imagenet",
        "gendercls train ./celeba --init weights.pt --set epochs=4 --out runs/first",
    ),
    "audit": (
        "gendercls audit ./celeba",
        "gendercls audit ./celeba --init weights.pt --out audit",
    ),
    "report": (
        "gendercls report preds.csv --labels list_attr_celeba.txt --photos ./photos",
        "gendercls report runs/first --out first.html",
    ),
    "sample": (
        "gendercls sample preds.csv --out sheet.html",
        "gendercls sample preds.csv --out sheet.html --n 400 --photos ./photos",
    ),
    "compare": (
        "gendercls compare fp32.csv int8.csv",
        "gendercls compare last-year.csv this-year.csv --labels list_attr_celeba.txt --out changed.csv",
    ),
    "verify": (
        "gendercls verify preds.csv",
        "gendercls verify preds.csv --photos ./photos --sample 200",
    ),
    "sort": (
        "gendercls sort preds.csv --photos ./photos --into ./sorted",
        "gendercls sort --undo ./sorted/sorted.csv",
    ),
}


class Commands(click.Group):
    """Turns our errors into their message and exit status; ``--debug`` shows the traceback as well."""

    is_whole_process = False
    """Whether the command was typed, so that the process is its own; not called by a program."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _typed_words_shown():
            return super().parse_args(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        self.is_whole_process = not args and not kwargs
        try:
            return super().main(*args, **kwargs)
        except GenderclsError as error:
            _end(error)
        except OSError as error:  # one that nobody foresaw, such as a path too long to be asked about
            file = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
            _end(GenderclsError(error.strerror or str(error), where=file, do="repeat with --debug to see more"))


class Command(click.Command):
    """A missing argument is answered with an example of two lines; Ctrl-C is an interrupted run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            with _typed_words_shown():
                return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            if self.name not in EXAMPLES:
                raise
            example = "\n  ".join(("For example:", *EXAMPLES[self.name]))
            raise click.UsageError(f"{error.format_message()}\n\n{example}", ctx) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # while there was nothing yet to continue; click itself would exit with 1
            raise InterruptedRunError("interrupted") from None


Commands.command_class = Command


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
    if _leads():
        click.echo(f"Error: {console.printable(str(error))}", err=True)
    sys.exit(error.exit_status)


def _put_json(text: str) -> None:
    """JSON on stdout; what a terminal would obey is escaped, which is the same to a program."""
    import json

    click.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def _leads() -> bool:
    """Whether this process speaks: the only one, or the first of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


def _everywhere(function: F) -> F:
    """The options that every command has."""
    debug = click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
    return click.version_option(__version__, prog_name="gendercls")(debug(function))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@_everywhere
def main() -> None:
    """Say how each face in a folder of photos would likely be perceived, and how sure that is.

    Labels are perceived, binary and noisy: they describe a labeller's impression of a photo, never who a person is.
    """
    # Pillow warns of odd files on stderr; what matters of that is in the file's row.
    warnings.filterwarnings("ignore", module=r"PIL\.")


_path = click.Path(path_type=Path)


class _Output(click.ParamType[Address]):
    """A path, or an address in a store."""

    name = "path"

    def convert(self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, Path) or is_url(value):
            return value
        if value.endswith("/"):
            self.fail(f"Parts are kept in stores alone; on disk name a file, as in {value}preds.csv.", param, ctx)
        return Path(value)


_classes_option = click.option(
    "--classes", help="Class rules, or 'all' for every attribute by itself.  [default: 'female=!Male;male=Male']"
)
_device_option = click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]")


@main.command(short_help="Folders of photos → a CSV with a row for every file.")
@click.argument("photos", nargs=-1, required=True, metavar="PHOTOS…")
@click.option("--out", type=_Output(), required=True, help="The .csv or .parquet to write, on disk or s3://…")
@click.option("--model", type=_path, help="An ONNX file made by gendercls export.  [default: the shipped one]")
@click.option(
    "--precision", type=click.Choice(["fp32", "int8"]), help="Of the shipped model.  [default: the fastest here]"
)
@click.option("--labels", type=_path, help="CelebA, FairFace, a CSV or class folders: adds truth and accuracy.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Only photos of this part of the labels.")
@_device_option
@click.option("--jobs", type=int, help="Threads that read, decode and run.  [default: the cores there are]")
@click.option(
    "--batch-size", type=int, help="Photos in each run of the model.  [default: 8 on a CPU, at most 64 on CUDA]"
)
@click.option("--min-confidence", type=float, help="Below it the label is 'uncertain'; 0 to 1.")
@click.option("--max-error", type=float, help="Choose that confidence for at most this share of wrong answers.")
@click.option("--faces", is_flag=True, help="Find the faces first, and classify each: whole photos, groups.")
@click.option("--face-model", type=_path, help="The face detector's file.  [default: what faces download got]")
@click.option("--min-face", type=int, metavar="PX", help="Leave out faces of fewer pixels a side.  [default: 20]")
@click.option("--max-faces", type=int, metavar="N", help="Only the N largest faces of a photo.  [default: all]")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N photos.")
@click.option("--restart", is_flag=True, help="Begin anew what was left unfinished.")
@click.option("--retry-failed", is_flag=True, help="Classify the failed photos again, and only those.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option(
    "--photo-timeout",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="A photo that takes longer gets an error row, as one that crashes does (on Linux).",
)
@click.option("--strict", is_flag=True, help="Exit with 3 when some photo failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@_everywhere
def classify(as_json: bool, quiet: bool, strict: bool, photo_timeout: float, **values: Any) -> None:
    """Classify every photo below PHOTOS (folders or files) and write one CSV row for every file, or for every face.

    Running the same command again continues an unfinished run.
    """
    from gendercls import process

    # In a program's own process nobody may fork.
    watch = None
    if main.is_whole_process:
        models = values["model"], values["face_model"]
        watch = process.guarded(photo_timeout, models, quiet=quiet, is_retry=values["retry_failed"])

    from gendercls import console
    from gendercls.classify.run import ClassifyOptions
    from gendercls.classify.run import classify as run_classify
    from gendercls.console import classified

    process.interrupt_when_asked()
    try:
        with classified.classify_progress(quiet) as report:
            summary = run_classify(ClassifyOptions(**values, command=process.this_command()), report, watch)
    except InterruptedRunError as error:
        error.do = "continue with: " + process.this_command()
        raise
    if as_json:
        _put_json(summary.to_json())
    if not quiet:
        classified.show_summary(summary)
    if strict and summary.tally.failed:
        raise PhotosFailedError(
            f"{console.counted(summary.tally.failed, 'photo')} failed",
            where=str(summary.out),
            do="see the column 'error' of their rows",
        )


@main.group(short_help="The face detector that --faces needs.")
@_everywhere
def faces() -> None:
    """The face detector that classify --faces needs; it comes from its authors and not with gendercls."""


@faces.command(short_help="Get it, once.")
@click.option("--from", "source", metavar="URL", help="Another place that has the same file.")
@_everywhere
def download(source: str | None) -> None:
    """Get the face detector YuNet (0.3 MB, Apache-2.0) from its authors' repository into your own data folder.

    It is kept only if it is the very file that gendercls was tested with.
    """
    from gendercls import console
    from gendercls.detectorfile import SOURCE, download_detector

    path, was_fetched = download_detector(source or SOURCE)
    console.note(f"face detector: {path}" + ("" if was_fetched else " (there already)"))


@main.command(short_help="Labelled photos → a checkpoint.")
@click.argument("data", type=_path)
@click.option("--out", type=_path, help="Folder of the run.  [default: runs/<time>-<recipe>]")
@click.option("--recipe", default="default", show_default=True, metavar="NAME|FILE.toml", help="What decides the run.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one key of the recipe.")
@_classes_option
@click.option("--init", default="none", show_default=True, metavar="FILE|imagenet|none", help="Where weights begin.")
@click.option("--split", type=click.Choice(["official", "identity", "stratified"]), help="Who validates and tests.")
@click.option("--seed", default=1, show_default=True, help="Of the split, the order, the views and the head.")
@click.option("--cache", type=_path, metavar="DIR", help="Keep decoded photos there, for later epochs and runs.")
@_device_option
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@_everywhere
def train(recipe: str, changes: tuple[str, ...], classes: str | None, out: Path | None, **values: Any) -> None:
    """Train on the labelled photos in DATA: CelebA, FairFace, a CSV, or one folder per class."""
    from gendercls import process
    from gendercls.console import trained
    from gendercls.train.folder import default_run_folder
    from gendercls.train.recipe import load_recipe
    from gendercls.train.run import TrainOptions
    from gendercls.train.run import train as run_train

    options = TrainOptions(
        out=out or default_run_folder(recipe),
        recipe=load_recipe(recipe, changes),
        recipe_name=recipe,
        classes=_classes(classes),
        **values,
    )
    try:
        with trained.training_progress(options.recipe.epoch_line) as report:
            result = run_train(options, report, process.stop_when_asked())
    except InterruptedRunError as error:
        error.do = "continue with: " + process.this_command("--resume", "--out", str(options.out))
        raise
    if _leads():
        trained.show_training(result, options.recipe.epoch_line)


@main.command(short_help="Labelled photos → what is wrong with them.")
@click.argument("data", type=_path)
@_classes_option
@click.option("--split", type=click.Choice(["official", "identity", "stratified"]), help="Which split must not leak.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of the split and the folds.")
@click.option("--init", default="none", show_default=True, metavar="FILE|imagenet|none", help="Weights to judge with.")
@click.option("--out", type=_path, help="Folder for the findings as CSVs, and a contact sheet.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON on stdout.")
@_device_option
@_everywhere
def audit(classes: str | None, as_json: bool, **values: Any) -> None:
    """Find copies, leaks across the split, rare classes and probable label errors in DATA, before it is trained on.

    DATA is what gendercls train takes. Labels are judged with --init alone: that takes a network.
    """
    from gendercls.console import trained
    from gendercls.train.audit.run import AuditOptions
    from gendercls.train.audit.run import audit as run_audit

    options = AuditOptions(classes=_classes(classes), **values)
    with trained.audit_progress() as tell:
        result = run_audit(options, tell)
    if as_json:
        _put_json(result.to_json())
    trained.show_audit(result)


@main.command(short_help="A checkpoint → an ONNX file, through a gate.")
@click.argument("run", type=_path, required=False)
@click.option("--out", type=_path, help="The ONNX file to write.  [default: model.onnx in the run]")
@click.option(
    "--check", type=_path, metavar="PHOTOS", help="Photos for the gate.  [default: the run's validation part]"
)
@click.option("--labels", type=_path, help="Labels of those photos: their accuracy is measured and kept.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="fp16 computes in 16 bits on GPUs; int8 is half the file and faster on CPUs. Answers nearly the same.",
)
@_everywhere
def export(**values: Any) -> None:
    """Write the ONNX file of RUN (a run's folder or a checkpoint; the newest finished run in runs/ by default).

    The file stays only if onnxruntime answers as PyTorch does on the same real photos.
    """
    from gendercls import console
    from gendercls.console import trained
    from gendercls.export.run import ExportOptions
    from gendercls.export.run import export as run_export

    trained.show_export(run_export(ExportOptions(**values), console.note))


@main.command(short_help="A CSV of predictions, or a training run → one HTML page.")
@click.argument("source", type=_path, metavar="PREDS.csv|RUN")
@click.option("--labels", type=_path, help="CelebA, FairFace, a CSV, class folders, or labels.csv of a sheet.")
@click.option("--out", type=_path, help="The HTML file to write.  [default: beside the CSV, or in the run]")
@click.option("--photos", type=_path, metavar="DIR", help="Show photos from there.  [default: of a CSV none]")
@click.option("--no-thumbnails", "thumbnails", is_flag=True, flag_value=False, default=True, help="Show no photos.")
@click.option(
    "--label-noise", type=click.FloatRange(0, 1), metavar="RATE", help="Say what accuracy means if so many labels err."
)
@click.option("--force", is_flag=True, help="Replace an existing page.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON on stdout.")
@_everywhere
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
        _put_json(result.to_json())
    reported.show_report(result)


@main.command(short_help="A preds.csv → a page to label some of it by hand.")
@click.argument("preds", type=_path, metavar="PREDS")
@click.option("--out", type=_path, required=True, help="The HTML file to write.")
@click.option("--photos", type=_path, metavar="DIR", help="Where the photos lie.  [default: where the run found them]")
@click.option("--n", "count", type=click.IntRange(min=1), default=200, show_default=True, help="How many to label.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of the draw and the order.")
@click.option("--show-answers", is_flag=True, help="Show what the model says: labels are then not blind.")
@click.option("--force", is_flag=True, help="Replace an existing page.")
@_everywhere
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


@main.command(short_help="Two CSVs of the same photos → what changed, and where.")
@click.argument("first", type=_path)
@click.argument("second", type=_path)
@click.option("--labels", type=_path, help="CelebA, FairFace, a CSV or class folders.  [default: the CSVs' own truth]")
@click.option("--out", type=_path, metavar="CSV", help="Write every changed prediction there.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--json", "as_json", is_flag=True, help="Print all numbers as JSON on stdout.")
@_everywhere
def compare(as_json: bool, **values: Any) -> None:
    """Say how FIRST and SECOND differ, two CSVs by gendercls classify: of two models, two precisions, two years.

    With labels also which is right more often, whether that is more than chance, and for which groups.
    """
    from gendercls.console import checked
    from gendercls.report.compare import CompareOptions
    from gendercls.report.compare import compare as run_compare

    found = run_compare(CompareOptions(**values))
    if as_json:
        _put_json(found.to_json())
    checked.show_comparison(found)


@main.command(short_help="Whether a CSV is what its model says.")
@click.argument("preds", type=_path, metavar="PREDS")
@click.option("--photos", type=_path, metavar="DIR", help="Where the photos lie.  [default: where the run found them]")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Read only N photos again, drawn at random.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of the draw.")
@click.option("--model", type=_path, help="The run's model.  [default: the shipped one, if it was that]")
@click.option("--face-model", type=_path, help="The run's face detector.  [default: what faces download got]")
@click.option("--device", metavar="auto|cpu|cuda[:N]", help="Where to classify.  [default: as the run]")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON on stdout.")
@_everywhere
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
        _put_json(found.to_json())
    checked.show_verdict(found)
    if not found.is_match:
        raise MismatchError(
            "the CSV is not what its model says of these photos",
            where=str(found.preds),
            do="restore the CSV or the photos from a copy, or classify the photos again",
        )


@main.command(short_help="Photos → a folder for each class, as links or copies.")
@click.argument("preds", type=_path, metavar="PREDS")
@click.option("--photos", type=_path, metavar="DIR", help="Where the photos lie.  [default: where the run found them]")
@click.option("--into", type=_path, metavar="DIR", help="Where the folders go; made if need be.")
@click.option("--link/--copy", "is_link", default=True, help="Symbolic links, or whole copies.  [default: link]")
@click.option("--undo", is_flag=True, help="Take back what PREDS says was made: the sorted.csv of an earlier sort.")
@_everywhere
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


@main.command(short_help="What a model file says of itself.")
@click.argument("model", type=_path, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the whole spec as JSON.")
@_everywhere
def info(model: Path | None, as_json: bool) -> None:
    """Say what MODEL (by default the shipped one) was trained on, how right it is, and what its data allows."""
    from gendercls import console
    from gendercls.console import about
    from gendercls.modelfile import read_model_file, shipped_model

    found = read_model_file(model or shipped_model())
    if found.warning:
        console.warn(found.warning)
    if as_json:
        _put_json(found.to_json())
        return
    about.show_info(found.spec, str(found.path), found.sha256)


@main.command(short_help="What this machine has and lacks, and how fast it is.")
@click.argument("photos", nargs=-1, metavar="[PHOTOS]…")
@_everywhere
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


def _classes(text: str | None) -> tuple[ClassRule, ...] | str | None:
    """The rules of ``--classes``; ``all`` and nothing stay as they are, since the labels decide there."""
    from gendercls.labels import ALL_ATTRIBUTES, parse_classes

    return parse_classes(text) if text and text != ALL_ATTRIBUTES else text
