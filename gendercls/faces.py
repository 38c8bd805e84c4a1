"""Faces in a photo: where they are, and their crops as the model was trained on them.

The detector is YuNet (Wu, Peng & Yu 2023, Machine Intelligence Research 20): a fixed input, and for each cell of three
grids a class score, an objectness, a box and five landmarks. What runs it is given as a function, so nothing here needs
onnxruntime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

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
_SMALL = SIDE // 20
"""Pixels of the input below which a face says that the photo may hold more, too small to be seen in the whole of it."""

_COMMON, _EDGE = 128, 4
"""Of parts that are looked at more closely: pixels that two of them share, and those in which a face may be cut."""

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


class _Found(NamedTuple):
    """Likely faces. boxes: ``[N, 4]``, left, top, right, bottom in pixels of the image. scores: ``[N]``, 0 to 1."""

    boxes: Floats
    scores: Floats


class _Part(NamedTuple):
    """A part of the resized photo, in pixels of that."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        return self.right - self.left, self.bottom - self.top


def find_faces(image: Image.Image, size: tuple[int, int], detect: Detect) -> list[Face]:
    """All faces in a photo, by x, y, w and h.

    Args:
        image: the upright photo in RGB, in full or reduced.
        size: (width, height) of the photo in full, in which boxes are given.
        detect: runs the detector.
    """
    found = _first_look(image, detect)
    if _may_hide_more(found, image):
        found = _Found(*map(np.concatenate, zip(found, _closer_look(image, detect), strict=True)))
    kept = _one_of_each(found)
    scale = np.array([size[0] / image.width, size[1] / image.height] * 2)
    faces = [_face(box, score, scale, size) for box, score in zip(found.boxes[kept], found.scores[kept], strict=True)]
    return sorted((face for face in faces if face.w and face.h), key=lambda face: (face.x, face.y, face.w, face.h))


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


def _first_look(image: Image.Image, detect: Detect) -> _Found:
    """What is seen in the whole photo."""
    found = _seen(image, SIDE, detect)
    if len(found.scores) or max(image.size) <= SIDE // 2:
        return found
    return _seen(image, SIDE // 2, detect)  # a face that fills the frame is found in a smaller picture of it


def _may_hide_more(found: _Found, image: Image.Image) -> bool:
    """Whether the photo was much reduced and a face is so small in it that others may have been missed."""
    least = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1).min(initial=np.inf)
    return max(image.size) > 1.2 * SIDE and bool(least * SIDE < _SMALL * max(image.size))


def _closer_look(image: Image.Image, detect: Detect) -> _Found:
    """What is seen in two to four parts of the photo, up to 1.8 times as large as in the whole of it."""
    side = 2.0 * SIDE - _COMMON
    shorter = side * min(image.size) / max(image.size)
    if SIDE < shorter < 1.1 * SIDE:  # a little smaller, and two parts do: so it is with 16:9
        side *= SIDE / shorter
    return _seen(image, side, detect)


def _seen(image: Image.Image, side: float, detect: Detect) -> _Found:
    """What is seen where the photo's longer side is that long; it is not enlarged, since that finds nothing more."""
    scale = min(1.0, side / max(image.size))
    inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    founds = [
        _seen_in(_Part(left, top, right, bottom), image, inner, detect)
        for top, bottom in _spans(inner[1])
        for left, right in _spans(inner[0])
    ]
    boxes, scores = (np.concatenate(each) for each in zip(*founds, strict=True))
    return _Found(boxes * np.array([image.width / inner[0], image.height / inner[1]] * 2, np.float32), scores)


def _spans(length: int) -> list[tuple[int, int]]:
    """Begin and end of what covers a length: itself, or two of the input's length that share `_COMMON` or more."""
    return [(0, length)] if length <= SIDE else [(0, SIDE), (length - SIDE, length)]


def _seen_in(part: _Part, image: Image.Image, inner: tuple[int, int], detect: Detect) -> _Found:
    """What is seen in a part of the photo resized to ``inner``, in pixels of that."""
    scale_x, scale_y = image.width / inner[0], image.height / inner[1]
    box = part.left * scale_x, part.top * scale_y, part.right * scale_x, part.bottom * scale_y
    view = image.resize(part.size, Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    found = _decode(detect(_in_the_corner(view)))
    boxes = found.boxes + np.array([part.left, part.top] * 2, np.float32)
    kept = _is_whole(boxes, part, inner)
    return _Found(boxes[kept], found.scores[kept])


def _is_whole(boxes: Floats, part: _Part, inner: tuple[int, int]) -> NDArray[np.bool_]:
    """Which boxes ``[N, 4]`` are of the part, and no edge within the photo may have cut.

    A small one near an edge is whole in the part beyond it; a large one is seen in the whole photo.
    """
    meets = np.all((boxes[:, :2] < part[2:]) & (boxes[:, 2:] > part[:2]), axis=1)  # not on the black beside it
    cut = [part.left > 0, part.top > 0, part.right < inner[0], part.bottom < inner[1]]
    margins = (boxes - part) * [1, 1, -1, -1]
    is_small = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0) <= _COMMON - 4 * _EDGE
    whole: NDArray[np.bool_] = np.all((margins >= _EDGE) | ~np.array(cut), axis=1) & (is_small | (not any(cut))) & meets
    return whole


def _in_the_corner(image: Image.Image) -> Floats:
    """An image in the upper left of the detector's input, black beside it."""
    canvas = np.zeros((1, 3, SIDE, SIDE), np.float32)
    canvas[0, :, : image.height, : image.width] = np.asarray(image)[..., ::-1].transpose(2, 0, 1)
    return canvas


def _decode(outputs: Mapping[str, Floats]) -> _Found:
    """The likely faces, boxes in pixels of the detector's input.

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
    return _Found(np.concatenate(all_boxes).astype(np.float32), np.concatenate(all_scores))


def _one_of_each(found: _Found) -> list[int]:
    """Which of them stay: the most confident first, and none that overlaps one that stays."""
    left = np.argsort(-found.scores, kind="stable")
    kept: list[int] = []
    while len(left):
        first, left = int(left[0]), left[1:]
        kept.append(first)
        left = left[_overlap(found.boxes[first], found.boxes[left]) <= _MOST_OVERLAP]
    return kept


def _overlap(box: Floats, others: Floats) -> Floats:
    """Intersection over union of one box ``[4]`` with others ``[N, 4]``: ``[N]``."""
    corner_low, corner_high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = (corner_high - corner_low).clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    overlap: Floats = common / (areas - common)
    return overlap


def _face(box: Floats, score: float, scale: NDArray[np.float64], size: tuple[int, int]) -> Face:
    """A box in pixels of the image as one in whole pixels of the photo, clipped to it."""
    left, top, right, bottom = (int(edge) for edge in (box * scale).round().clip(0, size * 2))
    return Face(left, top, right - left, bottom - top, round(float(score), 6))
