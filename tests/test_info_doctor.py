"""``info`` and ``doctor``: what a model says of itself, what a machine has, and CUDA that is not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from gendercls import doctor
from gendercls.classify.session import why_no_cuda
from gendercls.modelfile import read_model_file, shipped_model

Run = Callable[..., CompletedProcess[str]]
WIDE = {"COLUMNS": "400"}
NO_CUDA = why_no_cuda()


def facts(text: str) -> dict[str, list[str]]:
    """Headings and what stands beside them."""
    width = min(line.index("  ") for line in text.splitlines() if "  " in line)
    longest = max(len(line[:40].partition("  ")[0]) for line in text.splitlines())
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        found.setdefault(line[: max(width, longest)].strip(), []).append(line[max(width, longest) :].strip())
    return found


# --- info -------------------------------------------------------------------------------------------------------


def test_info_says_what_a_person_needs(run_gendercls: Run) -> None:
    """info prints the classes with their rules, the data's licence, what it was trained on and every accuracy."""
    done = run_gendercls("info", env=WIDE)
    model = read_model_file(shipped_model())
    said, spec = facts(done.stdout), model.spec
    assert (done.returncode, done.stderr) == (0, "")
    assert said["classes"] == ["; ".join(f"{c.name} = {c.rule}" for c in spec.classes)]
    assert said["licence of its data"] == [spec.provenance["data_licence"]]
    assert said["accuracy"] == [str(figure) for figure in spec.figures]
    assert said["file"] == [f"{model.path} (SHA-256 {model.sha256[:16]}…)"]
    assert said["note"] == ["Labels say how a labeller would likely perceive a face, not anyone's gender."]
    assert str(spec.provenance["data"]) in said["trained on"][0]


def test_info_json_has_everything(run_gendercls: Run) -> None:
    """``info --json`` prints one JSON object: the file's path as ``file``, its hash, and every key of the spec."""
    done = run_gendercls("info", "--json")
    model = read_model_file(shipped_model())
    content = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert (content.pop("file"), content.pop("sha256")) == (str(model.path), model.sha256)
    assert content == json.loads(model.spec.to_json())
    assert len(content["figures"]) == len(model.spec.figures) >= 1
    assert all({"accuracy", "interval", "confusion", "total"} <= figure.keys() for figure in content["figures"])


def test_info_reads_the_model_that_is_named(run_gendercls: Run, tmp_path: Path) -> None:
    """``info MODEL`` is of that file; one that cannot be read is an error with status 1 and nothing on stdout."""
    copy = tmp_path / "mine.onnx"
    copy.write_bytes(shipped_model().read_bytes())
    assert json.loads(run_gendercls("info", copy, "--json").stdout)["file"] == str(copy)
    done = run_gendercls("info", tmp_path / "no.onnx")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: the model cannot be read: No such file or directory\n"
        f"  where: {tmp_path / 'no.onnx'}\n"
        "  do:    check the path given with --model\n"
    )


def test_info_of_attributes_has_a_line_for_each(run_gendercls: Run, attribute_model: Path) -> None:
    """Of a model of independent attributes: that they are, how often whole labels are right, and each attribute."""
    done = run_gendercls("info", attribute_model, env=WIDE)
    facts_of, _, table = done.stdout.partition("\n\n")
    said = facts(facts_of)
    assert (done.returncode, done.stderr) == (0, "")
    assert said["attributes"] == ["3, each there or not: Female; Not_Female = Not Female; Clearly"]
    assert "classes" not in said
    assert said["whole label right"] == [
        "60.00 % [31.27, 83.18] (6/10) on made up, test part",
        "50.00 % [23.66, 76.34] (5/10) on made up, val part",
    ]
    assert said["one attribute right"] == [f"{n} %, mean over 3 attributes" for n in ("86.67", "80.00")]
    assert [" ".join(line.split()) for line in table.splitlines()] == [
        "made up, test part (the other figures: --json)",
        "attribute, % labelled accuracy precision recall",
        "Female 50.0 80.0 (49–94) 80.0 (38–96) 80.0 (38–96)",
        "Not_Female 50.0 80.0 (49–94) 71.4 (36–92) 100.0 (57–100)",
        "Clearly 10.0 100.0 (72–100) 100.0 (21–100) 100.0 (21–100)",
    ]


def test_info_tells_opinions(run_gendercls: Run, attribute_model: Path, tmp_path: Path) -> None:
    """Where classes are made of opinions, info names those; elsewhere it says nothing of them."""
    assert "opinions" not in run_gendercls("info", attribute_model, env=WIDE).stdout
    data = attribute_model.read_bytes()
    (tmp_path / "young.onnx").write_bytes(data.replace(b'"rule": "Clearly"', b'"rule": "!Young "'))
    text = run_gendercls("info", tmp_path / "young.onnx", env=WIDE).stdout.partition("\n\n")[0]
    assert facts(text)["opinions"] == ["what labellers thought, more than what a photo shows: Young"]


# --- doctor -----------------------------------------------------------------------------------------------------


def test_doctor_says_what_this_machine_has(run_gendercls: Run) -> None:
    """doctor prints versions, cores, CUDA or why not, and the shipped model's self-test; a sound machine exits 0."""
    done = run_gendercls("doctor", env=WIDE)
    said = facts(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"system", "Python", "processor", "cores", "gendercls", "numpy"} <= said.keys()
    assert said["onnxruntime packages"] == ["ok: one"]
    assert said["CUDA"] == [NO_CUDA or "the driver and all libraries are there"]
    assert said["shipped model"][0].startswith(f"ok: {read_model_file(shipped_model()).label} on ")
    assert "self-test within " in said["shipped model"][0]


def test_doctor_sees_both_onnxruntimes(run_gendercls: Run, tmp_path: Path) -> None:
    """onnxruntime and onnxruntime-gpu on top of each other are a problem with its remedy, and exit status 1."""
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{name}-1.21.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.21.0\n")
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = run_gendercls("doctor", env=WIDE | {"PYTHONPATH": path})
    said = facts(done.stdout)
    assert done.returncode == 1
    assert said["onnxruntime packages"] == [
        "PROBLEM: two are installed on top of each other: "
        "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu"
    ]
    assert (said["onnxruntime"], said["onnxruntime-gpu"]) == (["1.21.0"], ["1.21.0"])


@pytest.mark.parametrize(
    ("data", "what"),
    [(None, "this installation has no fp32 model"), (b"", "the model is no ONNX file, or a damaged one")],
)
def test_doctor_survives_a_broken_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes | None, what: str
) -> None:
    """Without a shipped model, or with a damaged one, doctor still says everything else."""
    (tmp_path / "gendercls" / "shipped").mkdir(parents=True)
    if data is not None:
        (tmp_path / "gendercls" / "shipped" / "m.onnx").write_bytes(data)
    monkeypatch.setattr("gendercls.modelfile.__file__", str(tmp_path / "gendercls" / "modelfile.py"))
    findings = {finding.what: finding for finding in doctor.examine()}
    assert findings["shipped model"].value.splitlines()[0] == what
    assert findings["shipped model"].is_good is False
    assert findings["onnxruntime packages"].is_good


# --- devices ----------------------------------------------------------------------------------------------------


@pytest.fixture
def photo(small_data: Path) -> Path:
    return small_data / "00.jpg"


@pytest.mark.skipif(not NO_CUDA, reason="CUDA works here")
def test_cuda_that_is_asked_for_and_not_there_is_an_error(run_gendercls: Run, photo: Path, tmp_path: Path) -> None:
    """``--device cuda`` without CUDA says what is missing, exits 1 and writes nothing."""
    done = run_gendercls("classify", photo, "--out", tmp_path / "p.csv", "--device", "cuda")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: CUDA does not work here: {NO_CUDA}\n  where: --device cuda\n  do:    mend that, or use --device cpu\n"
    )
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not NO_CUDA, reason="CUDA works here")
def test_auto_falls_back_and_says_so(run_gendercls: Run, photo: Path, tmp_path: Path) -> None:
    """``--device auto`` without CUDA runs on the CPU, and says that and why."""
    done = run_gendercls("classify", photo, "--out", tmp_path / "p.csv")
    assert done.returncode == 0, done.stderr
    assert f"ran on the CPU: {NO_CUDA}" in done.stderr.splitlines()
    assert " on cpu, fp32, " in done.stderr
