"""A random view of a photo: geometry, colour, quality, in this order, with the recipe's numbers.

Written on Pillow alone because it runs for every photo of every epoch: rotation, padding and crop are one pass over the
pixels that are kept, and brightness, contrast, saturation, hue and grey are one matrix. That takes less than half the
time of the same steps one by one in torchvision.transforms, whose distributions these are unless a line says otherwise.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from gendercls.images import decode
from gendercls.train.recipe import Recipe

_GREY = (128, 128, 128)  # what gendercls.images pads with
_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Luma as ITU-R 601-2 and Pillow have it, and the colours of equal luma as the plane of I and Q (NTSC).
_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.stack([_LUMA, 0.74 * ([1, 0, 0] - _LUMA) - 0.27 * ([0, 0, 1] - _LUMA)])
_TO_YIQ = np.vstack([_TO_YIQ, 0.48 * ([1, 0, 0] - _LUMA) + 0.41 * ([0, 0, 1] - _LUMA)])
_TO_GREY = np.tile(_LUMA, (3, 1))
_CHROMA = np.eye(3) - _TO_GREY
_QUARTER_TURN = np.linalg.inv(_TO_YIQ) @ [[0, 0, 0], [0, 0, -1], [0, 1, 0]] @ _TO_YIQ


def decode_for_views(data: bytes, size: int, *, name: str = "") -> Image.Image:
    """An upright RGB image with enough pixels for views of that size, and not many more.

    `decode` reduces JPEGs alone; a large photo of another format is reduced by a whole factor here, so that a view
    costs no more than its size needs. Both sides keep twice the size where the photo has it. Raises as `decode` does.
    """
    image = decode(data, name=name, at_least=(2 * size, 2 * size))
    factor = min(image.size) // (2 * size)
    return image.reduce(factor) if factor > 1 else image


class RandomView:
    """A decoded photo and a source of random numbers → uint8 ``[H, W, 3]`` of the recipe's size."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.resampling = _RESAMPLING[recipe.resampling]

    def __call__(self, image: Image.Image, random: np.random.Generator) -> NDArray[np.uint8]:
        view = self._geometry(_squared(image, self.recipe, self.resampling), random)
        view = self._colour(view, random)
        view = self._quality(view, random)
        pixels = np.array(view)
        if random.random() < self.recipe.erasing:
            _erase(pixels, random)
        return pixels

    def _geometry(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        """Rotate, pad, crop, flip: pixels are interpolated by the rotation and by one resize.

        A rotated photo keeps its corners where it is padded; torchvision would cut them off before.
        """
        recipe, size = self.recipe, (self.recipe.size, self.recipe.size)
        angle = random.uniform(-recipe.rotation, recipe.rotation) if random.random() < 0.5 else 0.0
        left, top, canvas = 0, 0, image.size
        if random.random() < recipe.zoom_out_probability:
            zoom = random.uniform(1.0, recipe.zoom_out)
            canvas = (int(image.width * zoom), int(image.height * zoom))
            left = int((canvas[0] - image.width) * random.random())
            top = int((canvas[1] - image.height) * random.random())
        x, y, width, height = random_crop(canvas, recipe.crop_min, recipe.aspect, random)
        x, y = x - left, y - top  # from the padded canvas to the photo
        if angle:
            view = _rotated_crop(image, angle, (x, y, width, height)).resize(size, self.resampling)
        elif x >= 0 and y >= 0 and x + width <= image.width and y + height <= image.height:
            view = image.resize(size, self.resampling, box=(x, y, x + width, y + height))
        else:
            padded = Image.new("RGB", (width, height), _GREY)
            padded.paste(image, (-x, -y))
            view = padded.resize(size, self.resampling)
        return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < recipe.flip else view

    def _colour(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        recipe = self.recipe
        spreads = (recipe.brightness, recipe.contrast, recipe.saturation)
        brightness, contrast, saturation = (random.uniform(max(0.0, 1 - s), 1 + s) for s in spreads)
        hue = random.uniform(-recipe.hue, recipe.hue)
        if random.random() < recipe.grey:
            saturation = 0.0
        if (brightness, contrast, saturation, hue) == (1, 1, 1, 0):
            return image
        return recoloured(image, brightness, contrast, saturation, hue)

    def _quality(self, image: Image.Image, random: np.random.Generator) -> Image.Image:
        recipe = self.recipe
        if random.random() < recipe.low_resolution:
            image = low_resolution(image, int(random.integers(recipe.size // 5, 2 * recipe.size // 3, endpoint=True)))
        if random.random() < recipe.blur:
            # torchvision's five taps, which cut a Gaussian of 1.5 pixels to one of 1.2.
            image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 1.2)))
        if random.random() < recipe.jpeg:
            image = jpeg_again(image, int(random.integers(30, 90, endpoint=True)))
        return image


def random_crop(
    size: tuple[int, int], least: float, aspect: float, random: np.random.Generator
) -> tuple[int, int, int, int]:
    """A box in an image of that size, (width, height): left, top, width and height in pixels.

    Its area is uniform in [least, 1] of the image's, the logarithm of its width / height uniform in [1 / aspect,
    aspect], its place uniform; where ten draws fit nowhere, the largest centred box of an allowed shape.

    Source: Szegedy et al. 2015, section 6; as torchvision's RandomResizedCrop.
    """
    limit = math.log(aspect)
    for _ in range(10):
        area = size[0] * size[1] * random.uniform(least, 1.0)
        ratio = math.exp(random.uniform(-limit, limit))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= size[0] and 0 < height <= size[1]:
            left, top = random.integers(0, (size[0] - width, size[1] - height), endpoint=True)
            return int(left), int(top), width, height
    width = min(size[0], max(1, round(size[1] * aspect)))
    height = min(size[1], max(1, round(size[0] * aspect)))
    return (size[0] - width) // 2, (size[1] - height) // 2, width, height


def recoloured(image: Image.Image, brightness: float, contrast: float, saturation: float, hue: float) -> Image.Image:
    """The image with three factors (1 changes nothing) and its hue turned by a share of the colour circle.

    Contrast is around the mean luma. Hue turns around the grey axis at constant luma, not at constant maximum as in
    HSV. Then all four commute, and their order, which torchvision draws, matters only where it would clip in between.
    """
    turn = 2 * math.pi * hue
    matrix = _TO_GREY + saturation * (math.cos(turn) * _CHROMA + math.sin(turn) * _QUARTER_TURN)
    offset = brightness * (1 - contrast) * np.asarray(image.convert("L")).mean()
    rows = np.column_stack([brightness * contrast * matrix, np.full(3, offset)])
    return image.convert("RGB", tuple(rows.ravel().tolist()))


def low_resolution(image: Image.Image, side: int) -> Image.Image:
    """The image shrunk to that many pixels a side and enlarged again: a face far from the camera."""
    return image.resize((side, side), Image.Resampling.BILINEAR).resize(image.size, Image.Resampling.BICUBIC)


def jpeg_again(image: Image.Image, quality: int) -> Image.Image:
    """The image saved as a JPEG of that quality (1 to 95) and opened again."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file, formats=["JPEG"]).convert("RGB")


def _squared(image: Image.Image, recipe: Recipe, resampling: Image.Resampling) -> Image.Image:
    """The frame in which views are drawn, so that a view that changes nothing is what evaluation sees."""
    if recipe.fit == "crop" or image.width == image.height:
        return image
    longer = max(image.size)
    if recipe.fit == "squash":
        side = min(longer, 2 * recipe.size)
        return image.resize((side, side), resampling)
    canvas = Image.new("RGB", (longer, longer), _GREY)
    canvas.paste(image, (round((longer - image.width) / 2), round((longer - image.height) / 2)))
    return canvas


def _rotated_crop(image: Image.Image, angle: float, box: tuple[int, int, int, int]) -> Image.Image:
    """A box (left, top, width, height) of the image turned counter-clockwise by degrees around its centre, on grey."""
    left, top, width, height = box
    cos, sin = math.cos(math.radians(angle)), -math.sin(math.radians(angle))
    centre_x, centre_y = image.width / 2, image.height / 2
    x, y = left - centre_x, top - centre_y
    matrix = (cos, sin, cos * x + sin * y + centre_x, -sin, cos, -sin * x + cos * y + centre_y)
    return image.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=_GREY)


def _erase(pixels: NDArray[np.uint8], random: np.random.Generator) -> None:
    """Grey over a box of 2 to 15 % of the area, in place. Source: Zhong et al. 2017, algorithm 1."""
    height, width = pixels.shape[:2]
    area = height * width * random.uniform(0.02, 0.15)
    ratio = math.exp(random.uniform(math.log(0.3), math.log(3.3)))
    tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))  # at most 0.71 of a side
    top, left = random.integers(0, (height - tall, width - wide), endpoint=True)
    pixels[top : top + tall, left : left + wide] = _GREY
