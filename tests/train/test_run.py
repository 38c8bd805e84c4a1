"""A whole run: what it takes from the data, what it refuses, what it leaves behind, and Ctrl-C."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gendercls.errors import GenderclsError
from gendercls.labels import parse_classes
from gendercls.train.checkpoint import load_checkpoint
from gendercls.train.data import PreparedData, prepare
from gendercls.train.folder import default_run_folder
from gendercls.train.run import TrainOptions, train

Options = Callable[..., TrainOptions]


def refusal(options: TrainOptions) -> str:
    with pytest.raises(GenderclsError) as caught:
        train(options, lambda event: None, lambda: False)
    return str(caught.value)


def prepared(options: TrainOptions) -> tuple[PreparedData, list[str]]:
    """What a run takes from the data, and what it says of that."""
    said: list[str] = []
    data = prepare(options.data, options.classes, options.split, options.seed, options.recipe, said.append)
    return data, said


@pytest.fixture
def photos(small_data: Path) -> list[Path]:
    return sorted(small_data.glob("*.jpg"))


# --- what a run leaves ------------------------------------------------------------------------------------------


def test_a_run_leaves_its_files_and_no_other(small_run: Path) -> None:
    """A finished run has weights, metrics, the recipe and the split; nothing temporary stays."""
    assert sorted(os.listdir(small_run)) == [
        "best.pt",
        "last.prev.pt",
        "last.pt",
        "metrics.jsonl",
        "predictions.csv",
        "recipe.toml",
        "result.json",
        "split.csv",
        "tensorboard",
    ]


def test_the_recipe_file_says_what_decided_the_run(small_run: Path, small_options: Options, small_data: Path) -> None:
    """recipe.toml has every number of the recipe, the data with its digest and licence, the weights, the versions."""
    content = tomllib.loads((small_run / "recipe.toml").read_text(encoding="utf-8"))
    assert content["recipe"] == small_options(small_run).recipe.to_dict()
    run = content["run"]
    assert run["data"] == "labels.csv"
    assert run["data_licence"] == "not stated; ask the owner of the photos"
    assert run["photos"] == {"train": 32, "val": 8, "test": 8}
    assert (run["seed"], run["split"], run["classes"]) == (1, "official", ["female=!Male", "male=Male"])
    assert re.fullmatch("[0-9a-f]{64}", run["data_digest"])
    assert run["init"]["name"] == "inception.pt"
    assert run["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert set(run["versions"]) == {"gendercls", "torch", "torchvision", "numpy", "pillow"}


def test_the_checkpoint_is_half_the_size_of_its_weights(small_run: Path) -> None:
    """best.pt keeps weights as fp16, and what is few and spans a wide range as float."""
    weights = load_checkpoint(small_run / "best.pt")["weights"]
    assert {value.dtype for value in weights.values() if value.ndim > 1} == {torch.float16}
    assert weights["head.bias"].dtype == torch.float32
    assert (small_run / "best.pt").stat().st_size < 46e6


def test_figures_are_of_the_test_part(small_run: Path) -> None:
    """best.pt has the test part's confusion counts, a temperature, and thresholds from the validation part."""
    checkpoint = load_checkpoint(small_run / "best.pt")
    (figure,) = checkpoint["figures"]
    assert figure["on"] == "labels.csv, test part of the official split, whole photos, PyTorch"
    assert np.sum(figure["confusion"]) == figure["total"] == 8
    assert np.trace(figure["confusion"]) == figure["correct"]
    assert checkpoint["calibration"]["temperature"] > 0


# --- what it takes from the data --------------------------------------------------------------------------------


def class_folders(root: Path, photos: list[Path]) -> Path:
    for number, photo in enumerate(photos):
        folder = root / ("cat", "dog", "owl")[number % 3]
        folder.mkdir(exist_ok=True)
        shutil.copy(photo, folder)
    return root


def fairface(root: Path, photos: list[Path]) -> Path:
    for part, chosen in (("train", photos[:32]), ("val", photos[32:])):
        (root / part).mkdir()
        rows = ["file,age,gender,race,service_test"]
        for number, photo in enumerate(chosen):
            shutil.copy(photo, root / part / f"{number}.jpg")
            rows.append(f"{part}/{number}.jpg,20-29,{('Male', 'Female')[number % 2]},Black,False")
        (root / f"fairface_label_{part}.csv").write_text("\n".join(rows) + "\n")
    return root


def kaggle(root: Path, photos: list[Path]) -> Path:
    (root / "img_align_celeba" / "img_align_celeba").mkdir(parents=True)
    attributes, parts = ["image_id,Male,Young"], ["image_id,partition"]
    for number, photo in enumerate(photos):
        shutil.copy(photo, root / "img_align_celeba" / "img_align_celeba")
        attributes.append(f"{photo.name},{(1, -1)[number % 2]},{(1, 1, -1)[number % 3]}")
        parts.append(f"{photo.name},{0 if number < 32 else 1 if number < 40 else 2}")
    (root / "list_attr_celeba.csv").write_text("\n".join(attributes) + "\n")
    (root / "list_eval_partition.csv").write_text("\n".join(parts) + "\n")
    return root


@pytest.mark.parametrize(
    ("make", "source", "names", "mode", "sizes"),
    [
        (class_folders, "data", ["cat", "dog", "owl"], "stratified", (36, 6, 6)),
        (fairface, "FairFace", ["female", "male"], "official", (32, 8, 8)),
        (kaggle, "CelebA", ["female", "male"], "official", (32, 8, 8)),
    ],
)
def test_data_is_taken_as_people_have_it(
    small_options: Options,
    photos: list[Path],
    tmp_path: Path,
    make: Callable[[Path, list[Path]], Path],
    source: str,
    names: list[str],
    mode: str,
    sizes: tuple[int, int, int],
) -> None:
    """Class folders, FairFace's folder and Kaggle's CelebA: every photo, and classes and parts as the data has."""
    (tmp_path / "data").mkdir()
    data, said = prepared(small_options(tmp_path / "run", data=make(tmp_path / "data", photos)))
    assert (data.labels.source, [c.name for c in data.classes], data.mode) == (source, names, mode)
    assert tuple(len(data.photos(part)) for part in ("train", "val", "test")) == sizes
    assert all(path.is_file() for part in ("train", "val", "test") for path in data.photos(part).paths)
    assert not [line for line in said if line.startswith("left out")]
    assert any(line.startswith(f"train: {sizes[0]} photos (") and line.endswith(f"split {mode}") for line in said)


def test_weights_of_labels_are_said_not_to_be_used(small_options: Options, small_data: Path, tmp_path: Path) -> None:
    """Labels of a weighted sample train as they are, and the run says so; it does not where there is no weight."""
    shutil.copytree(small_data, tmp_path / "data")
    first, *rows = (small_data / "labels.csv").read_text().splitlines()
    weighted = [f"{first},weight", *(f"{row},{1 + number}.5" for number, row in enumerate(rows))]
    (tmp_path / "data" / "labels.csv").write_text("\n".join(weighted) + "\n")
    warning = "warning: the labels have weights, which training does not use: each labelled photo counts once"
    assert warning in prepared(small_options(tmp_path / "run", data=tmp_path / "data"))[1]
    assert warning not in prepared(small_options(tmp_path / "run", data=small_data))[1]


def test_composed_classes_leave_out_what_no_rule_covers(
    small_options: Options, photos: list[Path], tmp_path: Path
) -> None:
    """Three composed classes are formed by their rules; photos that none covers are counted."""
    classes = parse_classes("young-man=Male&Young;young-woman=!Male&Young;old-man=Male&!Young")
    data, said = prepared(small_options(tmp_path, data=kaggle(tmp_path, photos), classes=classes))
    expected = [(0, 1, 2, 1, 0, -1)[number % 6] for number in range(48)]
    assert data.targets.argmax(axis=1).tolist() == [target for target in expected if target >= 0]
    assert data.targets.sum(axis=1).tolist() == [1] * 40
    assert "classes: young-man = Male&Young, young-woman = !Male&Young, old-man = Male&!Young" in said
    assert "left out: no class rule covers them (8)" in said


def test_photos_that_cannot_be_used_are_counted_and_named(
    small_options: Options, small_data: Path, tmp_path: Path
) -> None:
    """A missing photo, a damaged one and one in no part are left out of the run, each told with its reason."""
    data_folder = tmp_path / "data"
    shutil.copytree(small_data, data_folder)
    (data_folder / "03.jpg").unlink()
    (data_folder / "05.jpg").write_bytes((data_folder / "05.jpg").read_bytes()[:300])
    labels = data_folder / "labels.csv"
    labels.write_text(labels.read_text().replace("07.jpg,1,train", "07.jpg,1,"))
    data, said = prepared(small_options(tmp_path / "run", data=data_folder))
    assert len(data.photos("train")) == 29
    assert not {"03.jpg", "05.jpg", "07.jpg"} & set(data.keys)
    left_out = [line for line in said if line.startswith("left out: ")]
    assert "left out: No such file or directory (1)" in left_out
    assert "left out: in no part of the split (1)" in left_out
    assert "left out: 03.jpg: No such file or directory" in left_out
    assert any(re.fullmatch(r"left out: (05\.jpg: )?damaged photo: .*", line) for line in left_out)
    assert len(left_out) == 5


def test_names_that_are_not_utf8_are_trained_on(small_options: Options, photos: list[Path], tmp_path: Path) -> None:
    """A photo's name need not be UTF-8; split.csv has the raw bytes."""
    folder = class_folders(tmp_path, photos)
    os.rename(folder / "cat" / "00.jpg", os.fsencode(folder / "cat") + b"/\xff.jpg")
    data, _ = prepared(small_options(tmp_path / "run", data=folder))
    assert "cat/\udcff.jpg" in data.keys
    assert len(data.keys) == 48


def test_the_digest_sees_contents_classes_and_parts(small_options: Options, small_data: Path, tmp_path: Path) -> None:
    """The data's digest is the same for the same data, and changes with one photo's bytes or one label."""
    shutil.copytree(small_data, tmp_path / "data")
    options = small_options(tmp_path / "run", data=tmp_path / "data")
    digests = [prepared(small_options(tmp_path / "run"))[0].digest, prepared(options)[0].digest]
    shutil.copy(tmp_path / "data" / "01.jpg", tmp_path / "data" / "00.jpg")
    digests.append(prepared(options)[0].digest)
    labels = tmp_path / "data" / "labels.csv"
    labels.write_text(labels.read_text().replace("02.jpg,-1", "02.jpg,1"))
    digests.append(prepared(options)[0].digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


# --- what it refuses --------------------------------------------------------------------------------------------


def test_data_without_photos_is_refused(small_options: Options, tmp_path: Path) -> None:
    """Labels whose photos are all missing are refused, with the most frequent reason."""
    (tmp_path / "labels.csv").write_text("path,Male\na.jpg,1\nb.jpg,-1\n")
    assert refusal(small_options(tmp_path / "run", data=tmp_path)) == (
        "none of the 2 labelled photos can be used: No such file or directory (2)\n"
        f"  where: {tmp_path}\n"
        "  do:    check that the photos lie there under the names that the labels use"
    )


def test_one_photo_is_not_trained_on(small_options: Options, small_data: Path, tmp_path: Path) -> None:
    """Batch norm cannot train on one photo, so that is refused before it is tried."""
    labels = tmp_path / "labels.csv"
    rows = (small_data / "labels.csv").read_text().splitlines()
    labels.write_text("\n".join([rows[0], *rows[32:]]) + "\n")
    for photo in small_data.glob("*.jpg"):
        shutil.copy(photo, tmp_path)
    assert refusal(small_options(tmp_path / "run", data=tmp_path)) == (
        "the train part has one photo; two are needed\n  where: labels.csv\n  do:    give more photos"
    )


def test_a_folder_that_holds_a_run_is_refused(small_run: Path, small_options: Options) -> None:
    """A run is never trained over another."""
    before = (small_run / "best.pt").stat().st_mtime_ns
    assert refusal(small_options(small_run)) == (
        "the folder already holds a run\n"
        f"  where: {small_run}\n"
        "  do:    continue it with --resume, or choose another --out"
    )
    assert (small_run / "best.pt").stat().st_mtime_ns == before


def test_nothing_to_resume_is_refused(small_options: Options, tmp_path: Path) -> None:
    """``--resume`` with a folder that is not there, or without ``--out``, begins no new run."""
    assert refusal(small_options(tmp_path / "no", resume=True)) == (
        f"there is no run to continue\n  where: {tmp_path / 'no'}\n  do:    name the run's folder with --out RUN"
    )
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("changes", "values", "key", "was", "now"),
    [
        ((), {"seed": 2}, "seed", "1", "2"),
        (("epochs=3",), {}, "epochs", "2", "3"),
        (("learning_rate=1e-4",), {}, "learning_rate", "0.0003", "0.0001"),
        ((), {"split": "stratified"}, "split", "'official'", "'stratified'"),
        (
            (),
            {"classes": "man=Male;woman=!Male"},
            "classes",
            "['female=!Male', 'male=Male']",
            "['man=Male', 'woman=!Male']",
        ),
    ],
)
def test_a_run_is_not_resumed_with_another_option(
    small_run: Path,
    small_options: Options,
    tmp_path: Path,
    changes: tuple[str, ...],
    values: dict[str, object],
    key: str,
    was: str,
    now: str,
) -> None:
    """What decides a run cannot change within it; the option that differs is named with both values."""
    recipe = Path(shutil.copy(small_run / "recipe.toml", tmp_path))
    if "classes" in values:
        values = {"classes": parse_classes(str(values["classes"]))}
    assert refusal(small_options(tmp_path, *changes, resume=True, **values)) == (
        f"the run was begun with another value of {key}\n"
        f"  where: {recipe} has {was}, this command {now}\n"
        "  do:    continue with the same options and data, or choose another --out"
    )


def test_a_run_begun_by_an_earlier_version_goes_on(small_run: Path, small_options: Options, tmp_path: Path) -> None:
    """A record that lacks a key which later versions added is no other run's."""
    text = (small_run / "recipe.toml").read_text()
    shortened = re.sub(r"(?ms)^\[run\.init\]\n.*?^sha256", "[run.init]\nsha256", text)
    assert shortened != text
    (tmp_path / "recipe.toml").write_text(shortened)
    with pytest.raises(GenderclsError, match="interrupted in epoch 1"):
        train(small_options(tmp_path, resume=True), lambda event: None, lambda: True)


def test_a_damaged_recipe_file_is_refused(small_options: Options, tmp_path: Path) -> None:
    """A run whose recipe.toml does not parse cannot be checked, so it is not resumed."""
    (tmp_path / "recipe.toml").write_text("[recipe\n")
    what, where, do = refusal(small_options(tmp_path, resume=True)).splitlines()
    assert what.startswith("the run's recipe cannot be read: ")
    assert (where, do) == (f"  where: {tmp_path / 'recipe.toml'}", "  do:    choose another --out, and begin anew")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "the seed is -1; it must be 0 or more\n  where: --seed\n  do:    choose another"),
        ({"device": "gpu"}, "no device 'gpu'\n  where: --device\n  do:    use auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:x"}, "no device 'cuda:x'\n  where: --device\n  do:    use auto, cpu, cuda or cuda:N"),
        (
            {"device": "cuda:99"},
            "torch finds no CUDA device\n  where: --device cuda:99\n"
            "  do:    use --device cpu, or mend the GPU's driver",
        ),
    ],
)
def test_options_are_checked_before_work_begins(
    small_options: Options,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, object],
    message: str,
) -> None:
    """A seed or a device that cannot be is refused before any folder is made."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert refusal(small_options(tmp_path / "run", **values)) == message
    assert not (tmp_path / "run").exists()


def test_a_place_that_cannot_be_written_is_refused(small_options: Options, tmp_path: Path) -> None:
    """``--out`` that is a file, or below one, is refused."""
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "run"):
        reason = "File exists" if out.name == "file" else "Not a directory"
        message = f"the run's folder cannot be made: {reason}\n  where: {out}\n  do:    check it"
        assert refusal(small_options(out)) == message


def test_the_default_folder_has_time_and_recipe() -> None:
    """Without ``--out`` a run lies in runs/<time>-<recipe>."""
    assert re.fullmatch(r"runs/\d{8}-\d{6}-mine", default_run_folder("recipes/mine.toml").as_posix())


# --- the command ------------------------------------------------------------------------------------------------


def test_ctrl_c_saves_and_says_how_to_continue(
    small_run: Path, small_data: Path, small_weights: Path, tmp_path: Path, run_gendercls: Callable[..., object]
) -> None:
    """Ctrl-C ends the real command with 130 and a command that continues it, to the uninterrupted run's weights."""
    out = tmp_path / "run"
    typed = ["train", str(small_data), "--out", str(out), "--init", str(small_weights), "--device", "cpu"]
    for change in ("size=75", "epochs=2", "batch_size=8", "workers=1"):
        typed += ["--set", change]
    with subprocess.Popen([sys.executable, "-m", "gendercls", *typed], stderr=subprocess.PIPE, text=True) as command:
        assert command.stderr is not None
        before = next(line for line in command.stderr if line.startswith("device: "))
        command.send_signal(signal.SIGINT)
        said = command.stderr.read()
    assert before.startswith("device: cpu")
    assert command.returncode == 130
    continuing = shlex.join(["gendercls", *typed, "--resume"])
    assert re.fullmatch(
        r"Error: interrupted in epoch 1, step \d of 4; the state is saved\n"
        rf"  where: {re.escape(str(out / 'last.pt'))}\n"
        rf"  do:    continue with: {re.escape(continuing)}\n",
        said,
    )
    assert sorted(os.listdir(out)) == ["last.pt", "recipe.toml", "split.csv"]
    done = run_gendercls(*shlex.split(continuing)[1:])
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    left, right = (load_checkpoint(run / "best.pt")["weights"] for run in (small_run, out))
    assert all(torch.equal(value, right[key]) for key, value in left.items())
    with (out / "split.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 48


def test_sigterm_to_all_processes_saves(small_data: Path, small_weights: Path, tmp_path: Path) -> None:
    """As ``scancel`` and ``systemctl stop`` send it: the workers have it too, and leave it to the run."""
    out = tmp_path / "run"
    typed = ["train", str(small_data), "--out", str(out), "--init", str(small_weights), "--device", "cpu"]
    for change in ("size=75", "epochs=50", "batch_size=8", "workers=2"):
        typed += ["--set", change]
    command = subprocess.Popen([sys.executable, "-m", "gendercls", *typed], stderr=subprocess.PIPE, text=True)
    with command:
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
        assert command.stderr is not None
        next(line for line in command.stderr if line.startswith("device: "))
        while command.poll() is None and len(workers := children.read_text().split()) < 2:
            pass
        for process in (*workers, command.pid):  # the workers first, so that one that died of it would be seen
            os.kill(int(process), signal.SIGTERM)
        said = command.stderr.read()
    assert command.returncode == 130
    assert re.match(r"Error: interrupted in epoch \d+, step \d of 4; the state is saved\n", said), said
    assert (out / "last.pt").exists()
