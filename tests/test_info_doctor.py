"""``info`` and ``doctor``: what a model says of itself, what a machine has, and CUDA that is not there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import onnxruntime
import pytest
from click.testing import CliRunner

from gendercls import Classifier, doctor
from gendercls.classify import speed
from gendercls.classify.provider import why_no_cuda
from gendercls.cli import main
from gendercls.machine import available_cores
from gendercls.modelfile import Precision, read_model_file, shipped_model, shipped_models

Run = Callable[..., CompletedProcess[str]]
Networks = dict[tuple[Precision, int], float]
WIDE = {"COLUMNS": "400"}
NO_CUDA = why_no_cuda()
CUDA = int(onnxruntime.cuda_version.partition(".")[0] or 0)  # 0 of a build for CPUs alone


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
    assert f" on cpu, {Classifier().spec.precision}, " in done.stderr


@pytest.mark.skipif(shutil.which("cc") is None or not CUDA, reason="no C compiler, or an onnxruntime without CUDA")
@pytest.mark.parametrize(
    ("version", "says"),
    [
        (1000 * (CUDA - 1) + 40, f"the NVIDIA driver is for CUDA {CUDA - 1}.4, this onnxruntime needs {CUDA}."),
        (1000 * CUDA, ""),
    ],
)
def test_a_driver_that_is_too_old_is_named(run_gendercls: Run, tmp_path: Path, version: int, says: str) -> None:
    """A driver with a GPU but for an earlier CUDA is what doctor names; one for the same CUDA is not."""
    source = tmp_path / "driver.c"
    source.write_text(
        "int cuInit(unsigned flags) { return 0; }\n"
        "int cuDeviceGetCount(int *count) { *count = 1; return 0; }\n"
        f"int cuDriverGetVersion(int *version) {{ *version = {version}; return 0; }}\n"
    )
    subprocess.run(["cc", "-shared", "-o", tmp_path / "libcuda.so.1", source], check=True)
    done = run_gendercls("doctor", env=WIDE | {"LD_LIBRARY_PATH": str(tmp_path)})
    said = facts(done.stdout)["CUDA"][0]
    assert said.startswith(says) if says else "the NVIDIA driver" not in said


def test_fewer_cores_than_the_machine_has_are_named() -> None:
    """Two of 64 cores is what a container may give without a word."""
    assert doctor._cores(2, 64).startswith("2 for this process, 64 in the machine: the container or the affinity gives")
    assert doctor._cores(64, 64) == "64 for this process, 64 in the machine"


# --- speed ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not NO_CUDA, reason="CUDA works here")
def test_doctor_measures_these_photos(celeba: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rate for each way, the defaults marked, how the time is divided, and what is no photo counted."""
    monkeypatch.setattr(speed, "SECONDS", 0.05)
    (tmp_path / "0.jpg").write_bytes(b"")
    for photo in sorted((celeba / "img_align_celeba").iterdir())[:9]:
        shutil.copy(photo, tmp_path)
    done = CliRunner().invoke(main, ["doctor", str(tmp_path)], env=WIDE)
    assert done.exit_code == 0, done.output
    lines = done.stdout.partition("\n\n")[2].splitlines()
    assert lines[0] == "9 photos tried on cpu; 1 file among them could not be read"
    rows = re.findall(r"^(.+?) {2,}([\d,]+\.\d) *(default)?$", "\n".join(lines), re.MULTILINE)
    rates = {what: float(rate.replace(",", "")) for what, rate, _ in rows}
    jobs, ways = available_cores(), [f"{p}, {n} at once" for p in shipped_models() for n in (1, 4, 8, 16)]
    assert rates.keys() == {
        f"decode files in memory, {jobs} threads",
        *(f"network alone, {way}" for way in ways),
        *(f"all of it, {threads} threads" for threads in (jobs, 2 * jobs)),
    }
    assert min(rates.values()) > 1
    assert [what for what, _, default in rows if default] == [
        f"decode files in memory, {jobs} threads",
        f"network alone, {Classifier().spec.precision}, 8 at once",
        f"all of it, {jobs} threads",
    ]
    share = re.search(r"the network takes (\d+) % of a photo's time, decoding (\d+) %", done.stdout)
    assert share is not None
    assert sum(map(int, share.groups())) == 100
    assert sorted(os.listdir(tmp_path))[0] == "0.jpg"
    assert len(os.listdir(tmp_path)) == 10


@pytest.mark.parametrize(
    ("networks", "wholes", "says"),
    [
        ({("fp32", 8): 100, ("int8", 8): 250}, {2: 90, 4: 91}, ["--precision int8 would make the network 2.50"]),
        ({("int8", 8): 100, ("int8", 16): 110}, {2: 90, 4: 99}, ["--batch-size 16 would", "--jobs 4 would make all"]),
        ({("fp32", 8): 100, ("fp32", 16): 104}, {2: 90, 4: 60}, ["no option was faster by 5 %"]),
        (
            {("fp32", 8): 100, ("int8", 16): 255, ("int8", 8): 250},
            {2: 90, 4: 60},
            ["--precision int8 would make the network 2.50"],
        ),
    ],
)
def test_a_faster_way_is_said(networks: Networks, wholes: dict[int, float], says: list[str]) -> None:
    """Against the first of each, which is the default; what is within chance is not said."""
    said = list(speed._changes(networks, next(iter(networks)), wholes, 2))
    assert [line[: len(start)] for line, start in zip(said, says, strict=True)] == says


def test_a_rate_is_of_whole_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four threads that finish together every second, with eight photos each: 32 a second, not the first chunk's 8."""
    now = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])

    def chunks() -> Iterator[list[int]]:
        while True:
            now[0] += 1
            yield from [[0] * 8] * 4

    assert speed._rate(chunks(), 4) == 32


def test_what_limits_is_said() -> None:
    """On a CPU decoding and the network share the cores; a GPU works while they decode."""
    assert speed._limit(300, 100, is_cuda=False).startswith("the network takes 75 % of a photo's time")
    assert speed._limit(300, 1200, is_cuda=True) == ("decoding limits: the network alone would be 4.0 times as fast")


def test_doctor_without_a_photo_to_try(run_gendercls: Run, tmp_path: Path) -> None:
    """A folder that holds no photo is an error that names it, after what the machine has."""
    (tmp_path / "notes.txt").write_text("no photo")
    done = run_gendercls("doctor", tmp_path)
    assert done.returncode == 1
    assert "shipped model" in done.stdout
    assert done.stderr == (
        f"Error: no photo that can be read is among the first files (1 tried)\n  where: {tmp_path}\n"
        "  do:    name a folder of photos\n"
    )
