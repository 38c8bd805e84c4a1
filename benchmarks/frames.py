"""How right is a model on wide and on tight frames: python benchmarks/frames.py FAIRFACE MODEL.onnx [MODEL.onnx …]

On the validation part of FairFace's val labels: the photos as they are; on a grey canvas of 1.5 times the side, made 89
pixels wide; cut to three quarters of the side; and the mean logit of a photo and its mirror image. Log-loss is after
temperature scaling on the same photos, so that only what the models see is compared. For choosing a recipe: the test
part takes no part in it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gendercls.classify.session import Session
from gendercls.images import decode, fit
from gendercls.labels import read_labels
from gendercls.machine import available_cores
from gendercls.modelfile import read_model_file
from gendercls.stats import log_loss

GREY = (128, 128, 128)
View = Callable[[Image.Image], Image.Image]


def wide(image: Image.Image) -> Image.Image:
    width, height = (round(1.5 * side) for side in image.size)
    canvas = Image.new("RGB", (width, height), GREY)
    canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
    return canvas.resize((89, round(89 * height / width)), Image.Resampling.BICUBIC)


def tight(image: Image.Image) -> Image.Image:
    left, top = image.width // 8, image.height // 8
    return image.crop((left, top, image.width - left, image.height - top))


def mirrored(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fairface", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    options = parser.parse_args()
    labels = read_labels(options.fairface / "fairface_label_val.csv")
    assert labels.split is not None
    chosen = np.flatnonzero(labels.split == "val")
    images = [decode((labels.root / labels.keys[number]).read_bytes()) for number in chosen]
    print("| model | photos | accuracy | log-loss | temperature |\n| --- | --- | ---: | ---: | ---: |")
    plains = []
    for path in options.models:
        session = Session(read_model_file(path), device="cpu")
        targets = labels.truth_for(session.model.spec.classes, independent=False)[chosen]
        plain = logits(session, images, lambda image: image)
        found = {"as they are": plain, "wide": logits(session, images, wide), "tight": logits(session, images, tight)}
        found["and mirrored"] = (plain + logits(session, images, mirrored)) / 2
        for name, values in found.items():
            print(f"| {path.stem} | {name} | {score(session, values, targets)} |", flush=True)
        plains.append(plain)
    if len(plains) > 1:
        print(f"| all together | as they are | {score(session, np.mean(plains, axis=0), targets)} |")


def logits(session: Session, images: list[Image.Image], view: View) -> NDArray[np.float64]:
    """Logarithms of the probabilities, which are logits too: ``[N, K]``."""
    pre = session.model.spec.preprocessing

    def run(begin: int) -> NDArray[np.float32]:
        return session.run(np.stack([fit(view(image), pre) for image in images[begin : begin + session.batch_size]]))

    with ThreadPoolExecutor(available_cores()) as pool:
        batches = list(pool.map(run, range(0, len(images), session.batch_size)))
    values: NDArray[np.float64] = np.log(np.concatenate(batches).astype(np.float64).clip(1e-9))
    return values


def score(session: Session, values: NDArray[np.float64], targets: NDArray[np.int8]) -> str:
    answers = session.model.spec.answers
    temperature = answers.fit_temperature(values, targets)
    probabilities = answers.probabilities(values, temperature)
    loss = log_loss(answers.probability_of_truth(probabilities, targets))
    return f"{100 * answers.correct(probabilities, targets).mean():.2f} % | {loss:.4f} | {temperature:.2f}"


if __name__ == "__main__":
    main()
