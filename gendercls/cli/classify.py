"""The command that classifies, and the one that puts together what several machines classified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gendercls.address import Address, is_url
from gendercls.cli.command import PATH, command, device_option, end_by, everywhere, is_whole_process, put_json
from gendercls.errors import InterruptedRunError, PhotosFailedError

if TYPE_CHECKING:
    _AddressType = click.ParamType[Address]
else:
    _AddressType = click.ParamType  # of which older clicks have no kinds


class _Output(_AddressType):
    """A path, or an address in a store."""

    name = "path"

    def convert(self, value: str | Address, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, Path) or is_url(value):
            return value
        if value.endswith("/"):
            self.fail(f"Parts are kept in stores alone; on disk name a file, as in {value}preds.csv.", param, ctx)
        return Path(value)


@command(
    short_help="Folders of photos → a CSV with a row for every file.",
    examples=(
        "gendercls classify ./photos --out preds.csv",
        "gendercls classify ./photos --out preds.csv --labels list_attr_celeba.txt",
    ),
)
@click.argument("photos", nargs=-1, required=True, metavar="PHOTOS…")
@click.option("--out", type=_Output(), required=True, help="The .csv or .parquet to write, on disk or s3://…")
@click.option("--model", type=PATH, help="An ONNX file made by gendercls export.  [default: the shipped one]")
@click.option(
    "--precision", type=click.Choice(["fp32", "int8"]), help="Of the shipped model.  [default: the fastest here]"
)
@click.option("--labels", type=PATH, help="CelebA, FairFace, a CSV or class folders: adds truth and accuracy.")
@click.option("--split", type=click.Choice(["train", "val", "test"]), help="Only photos of this part of the labels.")
@device_option
@click.option("--jobs", type=int, help="Threads that read, decode and run.  [default: the cores there are]")
@click.option(
    "--batch-size", type=int, help="Photos in each run of the model.  [default: 8 on a CPU, at most 64 on CUDA]"
)
@click.option("--min-confidence", type=float, help="Below it the label is 'uncertain'; 0 to 1.")
@click.option("--max-error", type=float, help="Choose that confidence for at most this share of wrong answers.")
@click.option("--faces", is_flag=True, help="Find the faces first, and classify each: whole photos, groups.")
@click.option("--face-model", type=PATH, help="The face detector's file.  [default: what faces download got]")
@click.option("--min-face", type=int, metavar="PX", help="Leave out faces of fewer pixels a side.  [default: 20]")
@click.option("--max-faces", type=int, metavar="N", help="Only the N largest faces of a photo.  [default: all]")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N photos.")
@click.option("--shard", metavar="I/N", help="Only this share of the photos, as one of N machines; see merge.")
@click.option(
    "--ray",
    is_flag=False,
    flag_value="",
    metavar="[ADDRESS]",
    help="On all machines of a Ray cluster: the one at ADDRESS, or that this machine belongs to.",
)
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
@everywhere
def classify(as_json: bool, quiet: bool, strict: bool, photo_timeout: float, shard: str | None, **values: Any) -> None:
    """Classify every photo in PHOTOS and write one CSV row for every file, or for every face.

    PHOTOS are folders, photos, zip and tar archives, Parquet tables, addresses such as s3://bucket/photos, and lists of
    paths: @list.txt, or @- for what is piped in. '{000..015}' and '{a,b}' stand for several.

    Running the same command again continues an unfinished run.
    """
    from gendercls import process

    process.hold_input(values["photos"])
    # In a program's own process nobody may fork. With a cluster no photo is decoded in this one.
    watch = None
    if is_whole_process() and values["ray"] is None:
        models = values["model"], values["face_model"]
        watch = process.guarded(photo_timeout, models, quiet=quiet, is_retry=values["retry_failed"])
        end_by(process.leave)

    from gendercls.classify.opening import open_ahead
    from gendercls.classify.options import ClassifyOptions

    part = None
    if shard is not None:
        from gendercls.sources import read_shard

        part = read_shard(shard)
    options = ClassifyOptions(**values, shard=part, photo_timeout=photo_timeout, command=process.this_command())
    opened = open_ahead(options, watch) if watch is not None else None

    # The rest is loaded meanwhile.
    from gendercls import console
    from gendercls.classify.run import classify as run_classify
    from gendercls.console import classified

    process.interrupt_when_asked()
    try:
        with classified.classify_progress(quiet) as report:
            summary = run_classify(options, report, watch, opened)
    except InterruptedRunError as error:
        error.do = "continue with: " + process.this_command()
        raise
    if as_json:
        put_json(summary.to_json())
    if not quiet:
        classified.show_summary(summary)
    if strict and summary.tally.failed:
        raise PhotosFailedError(
            f"{console.counted(summary.tally.failed, 'photo')} failed",
            where=str(summary.out),
            do="see the column 'error' of their rows",
        )


@command(
    short_help="The CSVs of classify --shard → one CSV.",
    examples=(
        "gendercls merge parts/*.csv --out preds.csv",
        "gendercls merge s3://bucket/preds/ --out preds.csv",
    ),
)
@click.argument("parts", nargs=-1, required=True, metavar="PART…")
@click.option("--out", type=_Output(), required=True, help="The .csv or .parquet to write, on disk or s3://…")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@everywhere
def merge(parts: tuple[str, ...], out: Address, force: bool) -> None:
    """Put together what gendercls classify --shard I/N wrote: the very CSV that one machine would have written.

    All N shards have to be there. They stay as they are. PART may also be the one folder of parts that classify wrote
    into a store.
    """
    from gendercls import console, process
    from gendercls.classify.merge import merge as run_merge

    places = [part if is_url(part) else Path(part) for part in parts]
    merged = run_merge(places, out, force=force, command=process.this_command())
    failed = f", {merged.failed:,} of them failed" if merged.failed else ""
    console.note(f"{console.counted(merged.files, 'file')} of {merged.shards:,} shards{failed}: {merged.out}")
