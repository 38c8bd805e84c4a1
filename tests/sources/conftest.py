"""A store on this machine, photos with odd names, and the command with a model that costs nothing."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def fault_store() -> ModuleType:
    """The benchmarks' store that has faults."""
    pytest.importorskip("moto", reason="moto is not installed")
    path = Path(__file__).parents[2] / "benchmarks" / "fault_store.py"
    spec = importlib.util.spec_from_file_location("fault_store", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["fault_store"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Store:
    """moto's S3 with pages of 100, and a bucket named ``bucket``. env: for a command that is to find it."""

    port: int
    env: Mapping[str, str]
    client: Any

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket="bucket", Key=key, Body=data)

    def put_folder(self, folder: Path, prefix: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())


@pytest.fixture(scope="session")
def store(fault_store: ModuleType) -> Iterator[Store]:
    """The store; its tests put what they need below a prefix of their own."""
    with fault_store.moto(page=100) as port:
        url = f"http://127.0.0.1:{port}"
        store = Store(port, fault_store.environment(url), fault_store.client(url))
        store.client.create_bucket(Bucket="bucket")
        yield store


@pytest.fixture(scope="session")
def classify(store: Store, null_model: Path, run_gendercls: Run) -> Run:
    """``classify(folder, *args, env=…)``: the command in that folder, for which `store` is S3; the CSV is ``o.csv``."""

    def run(folder: Path, *args: object, env: Mapping[str, str] = store.env) -> subprocess.CompletedProcess[str]:
        fixed = ("--model", null_model, "--device", "cpu", "--quiet", "--out", "o.csv")
        return run_gendercls("classify", *args, *fixed, cwd=folder, env=env)

    return run


def make_photo(seed: int) -> bytes:
    """A JPEG of 40×30 pixels, each its own colours."""
    from io import BytesIO

    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 photos in two folders. Read it only."""
    folder = tmp_path_factory.mktemp("plain") / "photos"
    for number in range(60):
        path = folder / ("a" if number % 3 else "b") / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_photo(number))
    return folder


@pytest.fixture(scope="session")
def plain_rows(plain: Path, classify: Run) -> bytes:
    """What the command writes about `plain`."""
    done = classify(plain.parent, "photos")
    assert done.returncode == 0, done.stderr
    return (plain.parent / "o.csv").read_bytes()


@pytest.fixture(scope="session")
def in_store(store: Store, plain: Path) -> str:
    """The address of `plain` in the store."""
    store.put_folder(plain, "plain")
    return "s3://bucket/plain"


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files whose names stores, addresses and spreadsheets read as something else. Read it only."""
    folder = tmp_path_factory.mktemp("odd") / "photos"
    names = ["b c.jpg", "d#e.jpg", "f?g.jpg", "h%20i.jpg", "j+k.jpg", "=l.jpg", "ü ñ/x.jpg", 'q"r.jpg', "[x].jpg"]
    names += [
        "a/1.jpg",
        "a!/2.jpg",
        "a-/x.jpg",
        "a.jpg",
        "st*r.jpg",
        "b{0..3}.jpg",
        "&amp;.jpg",
        "a\\b.jpg",
        "m\nn.jpg",
    ]
    for number, name in enumerate([*names, ".hidden.jpg", ".hidden/x.jpg", "z/.hidden.jpg"]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make_photo(number))
    (folder / "empty.jpg").touch()
    (folder / "note.txt").write_text("no photo")
    os.truncate(folder / "a.jpg", 700)
    return folder
