"""Which of the shipped models classifies: the one that is asked for, the one that the run began with, the fastest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from gendercls import Classifier
from gendercls.classify.options import ClassifyOptions
from gendercls.classify.run import classify
from gendercls.classify.session import Session
from gendercls.errors import ModelError, UsageError
from gendercls.machine import has_fast_int8
from gendercls.modelfile import METADATA_KEY, Precision, read_model_file, shipped_model, shipped_models

Take = Callable[..., list[Path]]


@pytest.fixture(scope="module")
def two_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped model, and the same once more as if it computed in 8 bits."""
    folder = tmp_path_factory.mktemp("shipped")
    shutil.copy(shipped_model(), folder / "faces.onnx")
    model = onnx.load(folder / "faces.onnx")
    spec = read_model_file(shipped_model()).spec.to_dict() | {"precision": "int8"}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(spec)})
    onnx.save(model, folder / "faces.int8.onnx")
    return folder


@pytest.fixture
def machine(two_models: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """``machine(fast)``: both models are shipped, and the processor is made for int8 or not."""
    monkeypatch.setattr("gendercls.modelfile._shipped_folder", lambda: two_models)
    return lambda fast: monkeypatch.setattr("gendercls.classify.opening.has_fast_int8", lambda: fast)


@pytest.mark.parametrize(
    ("fast", "asked", "precision"),
    [(True, None, "int8"), (False, None, "fp32"), (True, "fp32", "fp32"), (False, "int8", "int8")],
)
def test_int8_is_taken_where_it_is_faster(
    machine: Callable[[bool], None], fast: bool, asked: str | None, precision: str
) -> None:
    """Unless a precision is asked for."""
    machine(fast)
    assert Classifier(device="cpu", precision=asked).spec.precision == precision  # type: ignore[arg-type]


def test_a_model_file_has_one_precision() -> None:
    """``--precision`` chooses among the shipped files and is an error together with ``--model``."""
    with pytest.raises(UsageError) as caught:
        Classifier("x.onnx", precision="int8")
    assert str(caught.value) == (
        "a model file has one precision\n  where: --precision int8\n  do:    leave it out, or leave out --model"
    )


def test_a_precision_that_is_not_shipped_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the folder."""
    monkeypatch.setattr("gendercls.modelfile._shipped_folder", lambda: tmp_path)
    with pytest.raises(ModelError) as caught:
        shipped_model("int8")
    assert str(caught.value) == (
        f"this installation has no int8 model\n  where: {tmp_path}\n"
        "  do:    name one with --model, or install gendercls anew"
    )


@pytest.mark.parametrize("began_fast", [True, False])
def test_a_run_goes_on_with_the_precision_it_began_with(
    machine: Callable[[bool], None], take: Take, tmp_path: Path, began_fast: bool
) -> None:
    """On a machine that would choose otherwise: the rest of the run, its retry, but not a run begun anew."""
    take(tmp_path / "photos", 12)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    out = tmp_path / "o.csv"
    options = {"photos": (str(tmp_path / "photos"),), "out": out, "device": "cpu"}

    def run(**more: bool) -> str:
        return classify(ClassifyOptions(**options, **more), lambda progress: None).precision  # type: ignore[arg-type]

    machine(began_fast)
    began = run()
    whole = out.read_bytes()
    machine(not began_fast)
    assert run(retry_failed=True) == began
    out.rename(tmp_path / "o.csv.part")
    assert run() == began
    assert out.read_bytes() == whole
    assert run(force=True) != began


def test_the_processor_says_what_it_has() -> None:
    """As the system lists it."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    assert has_fast_int8() == ("avx2" in flags)


@pytest.mark.parametrize("precision", shipped_models())
def test_no_bit_depends_on_how_many_go_at_once(precision: Precision) -> None:
    """Nor on who else does: on a CPU a batch is run as it comes, whatever its size."""
    session = Session(read_model_file(shipped_model(precision)), device="cpu", batch_size=16)
    pre = session.model.spec.preprocessing
    images = np.random.default_rng(3).integers(0, 256, (13, pre.height, pre.width, 3)).astype(np.uint8)
    whole = session.run(images)
    for size in (1, 2, 5, 8):
        parts = [session.run(images[n : n + size]) for n in range(0, len(images), size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
