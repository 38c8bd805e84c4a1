"""The commands about labelled photos and what is made of them: train, audit, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gendercls.cli.command import PATH, classes_option, command, device_option, everywhere, leads, put_json
from gendercls.errors import InterruptedRunError

if TYPE_CHECKING:
    from gendercls.labels import ClassRule


@command(
    short_help="Labelled photos → a checkpoint.",
    examples=(
        "gendercls train ./celeba --init imagenet",
        "gendercls train ./celeba --init weights.pt --set epochs=4 --out runs/first",
    ),
)
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, help="Folder of the run.  [default: runs/<time>-<recipe>]")
@click.option("--recipe", default="default", show_default=True, metavar="NAME|FILE.toml", help="What decides the run.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one key of the recipe.")
@classes_option
@click.option("--init", default="none", show_default=True, metavar="FILE|imagenet|none", help="Where weights begin.")
@click.option("--split", type=click.Choice(["official", "identity", "stratified"]), help="Who validates and tests.")
@click.option("--seed", default=1, show_default=True, help="Of the split, the order, the views and the head.")
@click.option("--cache", type=PATH, metavar="DIR", help="Keep decoded photos there, for later epochs and runs.")
@device_option
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@everywhere
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
    if leads():
        trained.show_training(result, options.recipe.epoch_line)


@command(
    short_help="Labelled photos → what is wrong with them.",
    examples=(
        "gendercls audit ./celeba",
        "gendercls audit ./celeba --init weights.pt --out audit",
    ),
)
@click.argument("data", type=PATH)
@classes_option
@click.option("--split", type=click.Choice(["official", "identity", "stratified"]), help="Which split must not leak.")
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=0), help="Of the split and the folds.")
@click.option("--init", default="none", show_default=True, metavar="FILE|imagenet|none", help="Weights to judge with.")
@click.option("--out", type=PATH, help="Folder for the findings as CSVs, and a contact sheet.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON on stdout.")
@device_option
@everywhere
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
        put_json(result.to_json())
    trained.show_audit(result)


@command(short_help="A trained network → an ONNX file, through a gate.")
@click.argument("run", type=PATH, required=False)
@click.option("--out", type=PATH, help="The ONNX file to write.  [default: model.onnx in the run]")
@click.option("--check", type=PATH, metavar="PHOTOS", help="Photos for the gate.  [default: the run's validation part]")
@click.option("--labels", type=PATH, help="Labels of those photos: their accuracy is measured and kept.")
@click.option(
    "--calibrate",
    type=PATH,
    metavar="PHOTOS",
    help="Photos, not those of the gate, that int8 learns its ranges from.  [default: the run's training part]",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="fp16 computes in 16 bits on GPUs; int8 is half the file and faster on CPUs. Answers nearly the same.",
)
@everywhere
def export(**values: Any) -> None:
    """Write the ONNX file of RUN (a run's folder or a checkpoint; the newest finished run in runs/ by default).

    RUN may also be an fp32 ONNX file of gendercls, to make fp16 or int8 of it. Then name photos with --check, their
    labels with --labels, and for int8 other photos with --calibrate.

    The file stays only if onnxruntime answers as PyTorch does on the same real photos.
    """
    from gendercls import console
    from gendercls.console import trained
    from gendercls.export.run import ExportOptions
    from gendercls.export.run import export as run_export

    trained.show_export(run_export(ExportOptions(**values), console.note))


def _classes(text: str | None) -> tuple[ClassRule, ...] | str | None:
    """The rules of ``--classes``; ``all`` and nothing stay as they are, since the labels decide there."""
    from gendercls.labels import ALL_ATTRIBUTES, parse_classes

    return parse_classes(text) if text and text != ALL_ATTRIBUTES else text
