"""The main job on real photos, as a user types it: train → export → classify, and what each leaves behind."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import socket
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from subprocess import CompletedProcess

import onnx
import pytest
import torch

from gendercls.classify.session import Session
from gendercls.modelfile import ModelFile, read_model_file
from gendercls.train.checkpoint import sha256_of

Run = Callable[..., CompletedProcess[str]]
LABEL_FILES = ("list_attr_celeba.txt", "list_eval_partition.txt", "identity_CelebA.txt")
PHOTOS = 120


@dataclass(frozen=True)
class Job:
    """The folders, and what each of the three commands said."""

    data: Path
    run: Path
    model: ModelFile
    preds: Path
    trained: str
    exported: str
    classified: str
    summary: dict[str, dict[str, dict[str, int]]]


def cut_out(source: Path, target: Path) -> Path:
    """A small CelebA in the official layout: photos of the people of whom there are most."""
    persons = dict(line.split() for line in (source / "identity_CelebA.txt").read_text().splitlines())
    often = Counter(persons.values())
    chosen = sorted(sorted(persons, key=lambda name: (-often[persons[name]], persons[name], name))[:PHOTOS])
    (target / "img_align_celeba").mkdir(parents=True)
    for name in chosen:
        shutil.copy(source / "img_align_celeba" / name, target / "img_align_celeba")
    for file in LABEL_FILES:
        lines = (source / file).read_text().splitlines()
        kept = [line for line in lines if line.split()[0] in set(chosen)]
        head = [str(PHOTOS), lines[1]] if file == "list_attr_celeba.txt" else []
        (target / file).write_text("\n".join(head + kept) + "\n")
    return target


@pytest.fixture(scope="module")
def job(celeba: Path, run_gendercls: Run, tmp_path_factory: pytest.TempPathFactory) -> Job:
    home = tmp_path_factory.mktemp("main-job")
    data, run = cut_out(celeba, home / "celeba"), home / "runs" / "first"
    weights = celeba.parents[1] / "weights" / "inception_v3_faces.pt"
    changes = ["--set", "epochs=1", "--set", "size=96", "--set", "batch_size=32", "--set", "workers=1"]
    trained = run_gendercls("train", data, "--out", run, "--init", weights, "--device", "cpu", *changes)
    assert trained.returncode == 0, trained.stderr
    exported = run_gendercls("export", cwd=home)
    assert exported.returncode == 0, exported.stderr
    photos, preds = data / "img_align_celeba", home / "preds.csv"
    labels = ("--labels", run / "split.csv", "--split", "test")
    classified = run_gendercls(
        *("classify", photos, "--out", preds, "--model", run / "model.onnx", *labels, "--device", "cpu", "--json")
    )
    assert classified.returncode == 0, classified.stderr
    assert trained.stdout == exported.stdout == ""
    model = read_model_file(run / "model.onnx")
    said = (trained.stderr, exported.stderr, classified.stderr)
    return Job(data, run, model, preds, *said, json.loads(classified.stdout))


@pytest.fixture(scope="module")
def split(job: Job) -> dict[str, dict[str, str]]:
    """The rows of RUN/split.csv by photo."""
    with (job.run / "split.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_training_says_what_it_took_from_where(job: Job) -> None:
    """Before training: the label files, the licence, the classes, the parts' sizes, the weights, the device."""
    lines = job.trained.splitlines()
    assert f"40 attributes of {PHOTOS} photos from {job.data / 'list_attr_celeba.txt'}" in lines
    assert any(line.endswith(f" identities from {job.data / 'identity_CelebA.txt'}") for line in lines)
    assert "licence of the data: CelebA: non-commercial research only (Liu et al. 2015)" in lines
    assert "classes: female = !Male, male = Male" in lines
    parts = [
        re.match(r"(train|val|test): (\d+) photos \((\d+) female, (\d+) male\), split identity", line) for line in lines
    ]
    sizes = {found[1]: int(found[2]) for found in parts if found}
    assert sizes.keys() == {"train", "val", "test"}
    assert sum(sizes.values()) == PHOTOS
    assert "weights begin at: inception_v3_faces.pt" in lines
    assert any(re.fullmatch(r"epoch 1: train loss .*, val accuracy .* %, .* photos/s, .*", line) for line in lines)


def test_a_run_leaves_everything_that_decided_it(job: Job) -> None:
    """RUN has metrics, recipe with versions and data digest, split, and two checkpoints that hold only tensors."""
    assert {"metrics.jsonl", "recipe.toml", "split.csv", "last.pt", "best.pt"} <= set(os.listdir(job.run))
    (epoch,) = [json.loads(line) for line in (job.run / "metrics.jsonl").read_text().splitlines()]
    assert epoch["epoch"] == 1
    assert 0 < epoch["val_loss"] < 2
    content = tomllib.loads((job.run / "recipe.toml").read_text(encoding="utf-8"))
    assert (content["recipe"]["size"], content["recipe"]["epochs"]) == (96, 1)
    names = ("gendercls", "torch", "torchvision", "numpy", "pillow")
    assert content["run"]["versions"] == {name: version(name) for name in names}
    assert re.fullmatch("[0-9a-f]{64}", content["run"]["data_digest"])
    for name in ("last.pt", "best.pt"):
        assert torch.load(job.run / name, weights_only=True)["format"] == 1


def test_identities_stay_apart(job: Job, split: dict[str, dict[str, str]]) -> None:
    """No person is in two parts, though each has several photos."""
    persons = dict(line.split() for line in (job.data / "identity_CelebA.txt").read_text().splitlines())
    assert split.keys() == persons.keys()
    parts: dict[str, set[str]] = {}
    for photo, row in split.items():
        parts.setdefault(persons[photo], set()).add(row["split"])
    assert max(Counter(persons.values()).values()) > 2
    assert {len(seen) for seen in parts.values()} == {1}


def test_split_classes_are_the_labels(job: Job, split: dict[str, dict[str, str]]) -> None:
    """split.csv's class is what CelebA's attribute Male says."""
    _, names, *rows = [line.split() for line in (job.data / "list_attr_celeba.txt").read_text().splitlines()]
    male = {row[0]: row[1 + names.index("Male")] for row in rows}
    assert {photo: row["class"] for photo, row in split.items()} == {
        photo: "male" if value == "1" else "female" for photo, value in male.items()
    }


def test_classify_gives_the_accuracy_that_training_gave(job: Job, split: dict[str, dict[str, str]]) -> None:
    """On the same test photos the exported model is right as often as PyTorch was, ties apart."""
    (printed,) = re.findall(r"test part, scored once: \d+\.\d+ % \[.*\] \((\d+)/(\d+)\)", job.trained)
    accuracy = job.summary["scores"]["accuracy"]
    with job.preds.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    ties = sum(abs(float(row["p_female"]) - float(row["p_male"])) <= 1e-4 for row in rows)
    assert {row["path"] for row in rows} == {photo for photo, row in split.items() if row["split"] == "test"}
    assert all(row["truth"] == split[row["path"]]["class"] for row in rows)
    assert accuracy["total"] == int(printed[1]) == len(rows)
    assert abs(accuracy["count"] - int(printed[0])) <= ties
    assert accuracy["count"] == sum(row["correct"] == "1" for row in rows)


def test_the_spec_is_the_whole_contract(job: Job) -> None:
    """The model file has classes, licence, provenance, figures, thresholds, self-test and the gate's figures."""
    spec = job.model.spec
    assert [(c.name, c.rule) for c in spec.classes] == [("female", "!Male"), ("male", "Male")]
    assert spec.provenance["data_licence"] == "CelebA: non-commercial research only (Liu et al. 2015)"
    assert spec.provenance["checkpoint_sha256"] == sha256_of(job.run / "best.pt")
    assert spec.provenance["init"]["name"] == "inception_v3_faces.pt"
    assert (spec.preprocessing.height, spec.preprocessing.width) == (96, 96)
    (figure,) = spec.figures
    assert figure.on == "CelebA, test part of the identity split, whole photos, PyTorch"
    assert figure.total == job.summary["scores"]["accuracy"]["total"]
    assert spec.temperature > 0
    assert spec.thresholds
    assert Session(job.model, device="cpu").self_test_difference < spec.self_test.tolerance / 10


def test_the_gate_is_told_and_kept(job: Job, split: dict[str, dict[str, str]]) -> None:
    """export took the newest run, ran the validation part through both sides, and printed and stored what it saw."""
    gate = job.model.spec.gate
    assert gate.photos == sum(row["split"] == "val" for row in split.values())
    assert gate.largest_difference <= gate.tolerance == 1e-4
    assert gate.worst_photo in split
    lines = job.exported.splitlines()
    assert "checkpoint: runs/first/best.pt" in lines
    assert "licence of the data: CelebA: non-commercial research only (Liu et al. 2015)" in lines
    assert (
        f"gate passed: {gate.photos} photos, largest difference {gate.largest_difference:.1e} (0.0001 allowed), "
        f"{gate.decisions_changed} decisions changed, worst photo {gate.worst_photo}" in lines
    )


def test_the_file_names_no_place_of_this_machine(job: Job) -> None:
    """The ONNX file has no path of the machine that made it, nor its name, in any word beside the weights."""
    graph = onnx.load_model_from_string(job.model.data)
    for tensor in graph.graph.initializer:
        tensor.ClearField("raw_data")  # among millions of bytes any short name comes up
    words = re.findall(rb"[\w./-]+", graph.SerializeToString())
    places = {str(job.data), str(job.run), os.getcwd(), str(Path(torch.__file__).parents[1]), str(Path.home())}
    for place in {*places, "main-job", "site-packages", socket.gethostname()} - {"/", "localhost"}:
        assert not [word for word in words if _names(word, place.encode())], place


def _names(word: bytes, place: bytes) -> bool:
    """Whether a word is the place or, of a path, lies in it."""
    return word == place or (len(place) > 3 and place in word)


def test_classify_says_how_right_it_was(job: Job) -> None:
    """classify prints the accuracy with its interval over the test part, and where the rows are."""
    accuracy = job.summary["scores"]["accuracy"]
    assert f"({accuracy['count']}/{accuracy['total']})" in job.classified
    assert f"rows: {job.preds}" in job.classified.splitlines()
