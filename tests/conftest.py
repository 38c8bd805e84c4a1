"""Where the shared photos are, and the command as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    import onnx

    from gendercls.export.convert import CalibratedNetwork
    from gendercls.modelfile import ModelFile
    from gendercls.train.run import TrainOptions

RunGendercls = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos and labels beside the checkout; absent on a user's machine, never in CI."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        reason = f"the shared photos are not at {folder}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="session")
def celeba(shared: Path) -> Path:
    """8,000 real CelebA photos in the official layout."""
    return shared / "celeba-8k"


@pytest.fixture(scope="session")
def fairface(shared: Path) -> Path:
    """40,000 train and 2,500 val photos of FairFace."""
    return shared / "fairface"


@pytest.fixture(scope="session")
def run_gendercls() -> RunGendercls:
    """``run_gendercls(*args, cwd=…, env=…)``: the command in a process of its own; env is added to this one's."""

    def run(
        *args: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gendercls", *map(str, args)]
        return subprocess.run(
            command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
        )

    return run


# --- a small training run on made photos ------------------------------------------------------------------------

# Threads that wait for each other stand still for seconds where other work keeps the cores busy. Set before torch is
# imported, and inherited by the commands that tests run.
os.environ.setdefault("OMP_NUM_THREADS", "1")
SMALL = ("size=75", "epochs=2", "batch_size=8", "workers=0")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 made photos of 100×80 pixels, light ones and dark ones, and a labels.csv with a split (32, 8 and 8)."""
    folder = tmp_path_factory.mktemp("small-data")
    generator = np.random.default_rng(1)
    rows = ["path,Male,split"]
    for number in range(48):
        patches = generator.integers(0, 160, (8, 8, 3)) + (95 if number % 2 else 0)
        photo = Image.fromarray(patches.astype(np.uint8)).resize((100, 80), Image.Resampling.BICUBIC)
        photo.save(folder / f"{number:02}.jpg")
        part = "train" if number < 32 else "val" if number < 40 else "test"
        rows.append(f"{number:02}.jpg,{1 if number % 2 else -1},{part}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict with torchvision's names, of random weights: what ``--init FILE`` takes."""
    import torch

    from gendercls.train.network import Network

    torch.manual_seed(7)
    backbone = Network(2, dropout=0.0, input_range=(0.0, 1.0)).backbone
    path = tmp_path_factory.mktemp("small-weights") / "inception.pt"
    torch.save({key: value.half() for key, value in backbone.state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def small_options(small_data: Path, small_weights: Path) -> Callable[..., TrainOptions]:
    """``small_options(out, *changes_to_the_recipe, **other_options)``: a run of seconds on `small_data`."""
    from gendercls.train.recipe import load_recipe
    from gendercls.train.run import TrainOptions

    def options(out: Path, *changes: str, **values: Any) -> TrainOptions:
        plain = {"data": small_data, "classes": None, "init": str(small_weights), "split": None, "seed": 1}
        plain |= {"device": "cpu", "resume": False, "recipe_name": "default", **values}
        return TrainOptions(out=out, recipe=load_recipe("default", [*SMALL, *changes]), **plain)

    return options


@pytest.fixture(scope="session")
def small_run(small_options: Callable[..., TrainOptions], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on `small_data`. Read it only; it is shared."""
    from gendercls.train.run import train

    out = tmp_path_factory.mktemp("small-run") / "uninterrupted"
    train(small_options(out), lambda event: None, lambda: False)
    return out


@pytest.fixture(scope="session")
def small_export(small_run: Path) -> tuple[CalibratedNetwork, onnx.ModelProto, ModelFile]:
    """The network of `small_run`, its ONNX graph, and the model file of both. Do not change them; they are shared."""
    from gendercls.export import run
    from gendercls.export.convert import to_onnx, with_spec
    from gendercls.modelfile import ModelFile
    from gendercls.train.checkpoint import load_checkpoint

    path = small_run / "best.pt"
    calibrated, spec = run._assemble(path.with_name("model.onnx"), path, load_checkpoint(path))
    graph = to_onnx(calibrated, spec.preprocessing.height, spec.preprocessing.width)
    return calibrated, graph, ModelFile(path.with_name("model.onnx"), with_spec(graph, spec), "", spec)
