"""Faces in a photo: where they are, and their crops as the model was trained on them.

The detector is YuNet (Wu, Peng & Yu 2023, Machine Intelligence Research 20): a fixed input, and for each cell of three
grids a class score, an objectness, a box and five landmarks. What runs it is given as a function, so nothing here needs
onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gendercls.images import Preprocessing, fit

SIDE = 640
"""Pixels of each side of the detector's input."""

STRIDES = (8, 16, 32)
"""Pixels of the input in each side of a grid's cell."""

AT_LEAST = (2 * SIDE, 2 * SIDE)
"""The (width, height) that a decoded photo keeps, so that a face of a twentieth of it still fills a crop."""

LEAST_SIDE = 20
"""Pixels of a face's box in the photo below which a face is not taken, unless asked for otherwise."""

LEAST_CONFIDENCE = 0.6
_MOST_OVERLAP = 0.3  # of two boxes, intersection over union; above it the less confident one is the same face
_GREY = (128, 128, 128)  # what gendercls.images pads with

Floats = NDArray[np.float32]
Detect = Callable[[Floats], Mapping[str, Floats]]
"""Runs the detector: float32 ``[1, 3, 640, 640]``, BGR, 0 to 255 → its outputs by name."""


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a photo. x, y, w, h: its box in whole pixels of the upright photo, within it. confidence: 0 to 1."""

    x: int
    y: int
    w: int
    h: int
    confidence: float


def find_faces(image: Image.Image, size: tuple[int, int], detect: Detect) -> list[Face]:
    """All faces in a photo, by x, y, w and h.

    Args:
        image: the upright photo in RGB, in full or reduced.
        size: (width, height) of the photo in full, in which boxes are given.
        detect: runs the detector.
    """
    for side in (SIDE, SIDE // 2):  # a face that fills the frame is found in a smaller picture of it
        scale = min(1.0, side / max(image.size))  # nor is it found better for being enlarged
        inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        boxes, scores = _decode(detect(_in_the_corner(image, inner)))
        kept = _one_of_each(boxes, scores)
        faces = [_face(box, score, inner, size) for box, score in zip(boxes[kept], scores[kept], strict=True)]
        if found := [face for face in faces if face.w and face.h]:
            return sorted(found, key=lambda face: (face.x, face.y, face.w, face.h))
    return []


def face_crop(image: Image.Image, size: tuple[int, int], face: Face, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The face as the model was trained on faces: uint8 ``[H, W, 3]`` RGB, grey where the photo ends.

    Args:
        image: the upright photo in RGB, in full or reduced.
        size: (width, height) of the photo in full, in which the face's box is given.
        face: where the face is.
        preprocessing: size, resampling, and how much is added around the box; the crop has the model's shape.
    """
    scale = image.width / size[0], image.height / size[1]
    grown = 1 + 2 * preprocessing.face_margin
    width, height = face.w * scale[0] * grown, face.h * scale[1] * grown
    shape = preprocessing.width / preprocessing.height
    width, height = max(width, height * shape), max(height, width / shape)
    left = (face.x + face.w / 2) * scale[0] - width / 2
    top = (face.y + face.h / 2) * scale[1] - height / 2
    box = round(left), round(top), round(left) + max(1, round(width)), round(top) + max(1, round(height))
    return fit(_cut(image, box), preprocessing)


def _cut(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    left, top, right, bottom = box
    if left >= 0 and top >= 0 and right <= image.width and bottom <= image.height:
        return image.crop(box)
    canvas = Image.new("RGB", (right - left, bottom - top), _GREY)
    canvas.paste(image, (-left, -top))
    return canvas


def _in_the_corner(image: Image.Image, size: tuple[int, int]) -> Floats:
    """The photo at that size in the upper left of the detector's input, black beside it."""
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
    canvas = np.zeros((1, 3, SIDE, SIDE), np.float32)
    canvas[0, :, : size[1], : size[0]] = pixels[..., ::-1].transpose(2, 0, 1)
    return canvas


def _decode(outputs: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Boxes ``[N, 4]`` (left, top, right, bottom in pixels of the input) and scores ``[N]`` of the likely faces.

    Source: Wu, Peng & Yu 2023; the authors' own decoder (ShiqiYu/libfacedetection.train, and OpenCV's FaceDetectorYN).
    """
    all_boxes, all_scores = [], []
    for stride in STRIDES:
        classes, objects = (outputs[f"{kind}_{stride}"].reshape(-1).clip(0, 1) for kind in ("cls", "obj"))
        scores = np.sqrt(classes * objects)
        likely = np.flatnonzero(scores >= LEAST_CONFIDENCE)
        cells = np.stack([likely % (SIDE // stride), likely // (SIDE // stride)], axis=1)
        box = outputs[f"bbox_{stride}"].reshape(-1, 4)[likely]
        centres, halves = (cells + box[:, :2]) * stride, np.exp(box[:, 2:]) * (stride / 2)
        all_boxes.append(np.concatenate([centres - halves, centres + halves], axis=1))
        all_scores.append(scores[likely])
    return np.concatenate(all_boxes).astype(np.float32), np.concatenate(all_scores)


def _one_of_each(boxes: Floats, scores: Floats) -> list[int]:
    """Which boxes stay: the most confident first, and none that overlaps one that stays."""
    left = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(left):
        first, left = int(left[0]), left[1:]
        kept.append(first)
        left = left[_overlap(boxes[first], boxes[left]) <= _MOST_OVERLAP]
    return kept


def _overlap(box: Floats, others: Floats) -> Floats:
    """Intersection over union of one box ``[4]`` with others ``[N, 4]``: ``[N]``."""
    corner_low, corner_high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = (corner_high - corner_low).clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    overlap: Floats = common / (areas - common)
    return overlap


def _face(box: Floats, score: float, inner: tuple[int, int], size: tuple[int, int]) -> Face:
    """A box in pixels of the input as one in whole pixels of the photo, clipped to it."""
    scale = np.array([size[0] / inner[0], size[1] / inner[1]] * 2)
    left, top, right, bottom = (int(edge) for edge in (box * scale).round().clip(0, size * 2))
    return Face(left, top, right - left, bottom - top, round(float(score), 6))
