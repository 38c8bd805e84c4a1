"""A folder of photos through another library, as its documentation shows it: what benchmarks/peers.py times.

Runs in an environment of its own, where gendercls is not installed.
"""

from __future__ import annotations

import argparse
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

CORES = len(os.sched_getaffinity(0))
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=["torchvision", "openvino", "ultralytics"])
    parser.add_argument("size", type=int)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--model")
    parser.add_argument("--precision")
    options = parser.parse_args()
    paths = sorted(options.photos.iterdir())
    if options.library == "torchvision":
        count = with_torchvision(paths, options.size, is_compiled=options.compile)
    elif options.library == "openvino":
        count = with_openvino(paths, options.size, options.model, options.precision)
    else:
        count = with_ultralytics(options.photos, options.size)
    assert count == len(paths), f"{count} answers for {len(paths)} photos"


def with_torchvision(paths: list[Path], size: int, *, is_compiled: bool) -> int:
    """A DataLoader with a process for each core, and the network in memory's other order, which is faster on CPUs."""
    import torch
    from PIL import Image
    from torchvision import models, transforms

    look = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )

    class Photos(torch.utils.data.Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, number: int) -> torch.Tensor:
            tensor: torch.Tensor = look(Image.open(paths[number]).convert("RGB"))
            return tensor

    network = models.inception_v3(weights=None, aux_logits=False, init_weights=False, num_classes=2).eval()
    network = network.to(memory_format=torch.channels_last)
    if is_compiled:
        network = torch.compile(network)
    loader = torch.utils.data.DataLoader(Photos(), batch_size=BATCH, num_workers=CORES)
    with torch.inference_mode():
        return sum(len(network(images.to(memory_format=torch.channels_last)).softmax(1).tolist()) for images in loader)


def with_openvino(paths: list[Path], size: int, model: str, precision: str | None) -> int:
    """A queue of requests, as many as OpenVINO wants for throughput; photos are decoded in threads beside it."""
    import numpy as np
    import openvino as ov

    core = ov.Core()
    network = core.read_model(model)
    network.reshape([8, size, size, 3])
    settings = {"PERFORMANCE_HINT": "THROUGHPUT"}
    if precision is not None:
        settings["INFERENCE_PRECISION_HINT"] = precision
    queue = ov.AsyncInferQueue(core.compile_model(network, "CPU", settings))
    answers = []
    queue.set_callback(lambda request, count: answers.append(request.get_tensor("probabilities").data[:count].tolist()))
    for images in decoded(paths, size):
        batch = np.zeros((8, size, size, 3), np.uint8)
        batch[: len(images)] = images
        queue.start_async({"images": batch}, userdata=len(images))
    queue.wait_all()
    return sum(map(len, answers))


def decoded(paths: list[Path], size: int) -> Iterator[list[object]]:
    """Photos as arrays, eight at a time, made by a thread for each core, which keep a little ahead."""
    import numpy as np
    from PIL import Image

    def load(some: list[Path]) -> list[object]:
        return [np.asarray(Image.open(path).convert("RGB").resize((size, size), Image.BICUBIC)) for path in some]

    chunks = (paths[begin : begin + 8] for begin in range(0, len(paths), 8))
    with ThreadPoolExecutor(CORES) as pool:
        waiting = deque(pool.submit(load, chunk) for chunk in islice(chunks, 2 * CORES))
        while waiting:
            images = waiting.popleft().result()
            waiting.extend(pool.submit(load, chunk) for chunk in islice(chunks, 1))
            yield images


def with_ultralytics(folder: Path, size: int) -> int:
    from ultralytics import YOLO

    results = YOLO("yolo11n-cls.yaml", task="classify").predict(
        source=str(folder), imgsz=size, device="cpu", batch=BATCH, stream=True, verbose=False, save=False
    )
    return sum(1 for _ in results)


if __name__ == "__main__":
    main()
