"""How fast are tools that people use otherwise, on the same photos and machine: python benchmarks/peers.py PHOTOS …

    python benchmarks/peers.py celeba/img_align_celeba --timm inference.py --envs /tmp/peers

``--timm`` names the inference.py of pytorch-image-models. Every tool classifies some photos and then many; the
difference of the times is what photos cost, so neither start nor compilation counts. All take turns, round by round;
a ratio is of two neighbours in one round. Networks are Inception-v3 with the shipped model's input, but for
ultralytics, which has its own smaller one. Weights of others are random: speed needs no accuracy.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from overhead import gather

from gendercls.doctor import processor
from gendercls.machine import available_cores
from gendercls.modelfile import read_model_file, shipped_models

PEER = Path(__file__).with_name("peer.py")
FEW = 64
NEEDS = {
    "torch": ("torch", "torchvision", "timm", "pandas"),
    "ultralytics": ("ultralytics",),
    "openvino": ("openvino", "numpy", "pillow"),
}


@dataclass(frozen=True)
class Tool:
    """words: its command, with FOLDER for the photos; environment: which one it runs in, empty for ours."""

    name: str
    environment: str
    words: list[str]
    rates: list[float] = field(default_factory=list, compare=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--timm", type=Path, help="inference.py of pytorch-image-models; left out without it")
    parser.add_argument("--envs", type=Path, help="where the tools are installed, to use again (default: temporary)")
    parser.add_argument("--count", type=int, default=512, help="photos whose time is measured (default 512)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        few, many = Path(scratch) / "few", Path(scratch) / "many"
        gather(options.photos, few, FEW)
        gather(options.photos, many, FEW + options.count)
        pythons = {"": Path(sys.executable)} | install(options.envs or Path(scratch) / "envs")
        size = read_model_file(shipped_models()["fp32"]).spec.preprocessing.width
        tools = list(all_tools(size, options.timm, pythons))
        for number in range(options.rounds):
            for tool in list(tools):
                try:
                    if number == 0:
                        seconds(tool, pythons, few, scratch)  # some compile, and keep that for the next time
                    shorter, longer = (seconds(tool, pythons, folder, scratch) for folder in (few, many))
                except subprocess.CalledProcessError as error:
                    print(f"{tool.name} is left out: {error.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
                    tools.remove(tool)
                    continue
                tool.rates.append(options.count / (longer - shorter))
                print(f"round {number + 1}: {tool.name}: {tool.rates[-1]:.1f} photos/s", file=sys.stderr)
    print(f"{options.count} photos, {size}×{size} pixels, {available_cores()} cores of {processor()}; ", end="")
    print(", ".join(versions(pythons)) + "\n")
    print("| tool | photos/s | `gendercls`, fp32, is so many times as fast |\n| --- | ---: | ---: |")
    for tool in tools:
        ratio = statistics.median(ours / theirs for ours, theirs in zip(tools[0].rates, tool.rates, strict=True))
        print(f"| {tool.name} | {statistics.median(tool.rates):.1f} | {ratio:.2f} |")


def all_tools(size: int, timm: Path | None, pythons: dict[str, Path]) -> Iterator[Tool]:
    """Ours first, in each shipped precision; then what could be installed."""
    for precision, path in sorted(shipped_models().items()):
        words = ["-m", "gendercls", "classify", "FOLDER", "--out", "OUT", "--model", str(path), "--quiet"]
        yield Tool(f"`gendercls classify`, {precision}", "", words)
    if "torch" in pythons and timm is not None:
        words = [str(timm), "FOLDER", "--model", "inception_v3", "--input-size", "3", str(size), str(size)]
        words += ["--num-classes", "2", "--device", "cpu", "--workers", str(available_cores())]
        words += [
            "--no-console-results",
            "--results-file",
            "OUT",
            "--checkpoint",
            str(random_weights(pythons["torch"])),
        ]
        yield Tool("timm's `inference.py`", "torch", words)
        yield Tool("… `--channels-last --batch-size 32`", "torch", [*words, "--channels-last", "--batch-size", "32"])
        yield Tool("… `--torchcompile --batch-size 32`", "torch", [*words, "--torchcompile", "--batch-size", "32"])
    if "torch" in pythons:
        yield Tool("torchvision, eager, channels last", "torch", [str(PEER), "torchvision", str(size), "FOLDER"])
        compiled = [str(PEER), "torchvision", str(size), "FOLDER", "--compile"]
        yield Tool("torchvision, `torch.compile`", "torch", compiled)
    if "openvino" in pythons:
        for precision, path in sorted(shipped_models().items()):
            words = [str(PEER), "openvino", str(size), "FOLDER", "--model", str(path)]
            yield Tool(f"OpenVINO, {precision} file, float32", "openvino", [*words, "--precision", "f32"])
            yield Tool(f"OpenVINO, {precision} file, its own choice", "openvino", words)
    if "ultralytics" in pythons:
        words = [str(PEER), "ultralytics", str(size), "FOLDER"]
        yield Tool("ultralytics, `yolo11n-cls`: another, smaller network", "ultralytics", words)


def random_weights(python: Path) -> Path:
    """A checkpoint for inference.py, which fetches one where none is named; beside the environment."""
    path = python.parents[1] / "random.pt"
    code = (
        "import sys, timm, torch; torch.save(timm.create_model(*sys.argv[2:], num_classes=2).state_dict(), sys.argv[1])"
    )
    subprocess.run([python, "-c", code, path, "inception_v3"], check=True, capture_output=True)
    return path


def install(envs: Path) -> dict[str, Path]:
    """The Python of each environment; one that cannot be made is said and left out."""
    pythons = {}
    for name, packages in NEEDS.items():
        python = envs / name / "bin" / "python"
        try:
            if not python.exists():
                subprocess.run([sys.executable, "-m", "venv", envs / name], check=True)
                subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
            pythons[name] = python
        except subprocess.CalledProcessError as error:
            print(f"{name} cannot be installed and is left out: {error}", file=sys.stderr)
    return pythons


def seconds(tool: Tool, pythons: dict[str, Path], folder: Path, scratch: str) -> float:
    """How long its process takes for those photos."""
    out = Path(scratch) / "out.csv"
    out.unlink(missing_ok=True)
    places = {"FOLDER": str(folder), "OUT": str(out)}
    words = [str(pythons[tool.environment]), *(places.get(word, word) for word in tool.words)]
    began = time.perf_counter()
    env = {**os.environ, "YOLO_CONFIG_DIR": scratch}
    subprocess.run(words, cwd=scratch, env=env, capture_output=True, text=True, check=True)
    return time.perf_counter() - began


def versions(pythons: dict[str, Path]) -> Iterator[str]:
    code = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    for environment, package in (
        ("", "gendercls"),
        ("", "onnxruntime-gpu"),
        ("torch", "torch"),
        ("torch", "timm"),
        ("openvino", "openvino"),
        ("ultralytics", "ultralytics"),
    ):
        if environment in pythons:
            words = [pythons[environment], "-c", code, package]
            yield f"{package} {subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()}"


if __name__ == "__main__":
    main()
