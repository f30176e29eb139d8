"""Pictures of random shapes, unlike each other by construction, and copies of them as people make them."""

import io

import numpy as np
from PIL import Image, ImageDraw

_FILTERS = (Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)


def drawing(seed: int) -> Image.Image:
    """Three to eight shapes of any colour on any ground, 96 to 320 pixels a side."""
    random = np.random.default_rng([seed, 1])
    width, height = (int(side) for side in random.integers(96, 320, 2))
    image = Image.new("RGB", (width, height), tuple(random.integers(0, 256, 3).tolist()))
    canvas = ImageDraw.Draw(image)
    for _ in range(int(random.integers(3, 9))):
        x, y = random.uniform(0, width), random.uniform(0, height)
        dx, dy = random.uniform(0.05, 0.4) * width, random.uniform(0.05, 0.4) * height
        color, kind = tuple(random.integers(0, 256, 3).tolist()), random.integers(3)
        if kind == 0:
            canvas.ellipse((x - dx, y - dy, x + dx, y + dy), fill=color)
        elif kind == 1:
            canvas.rectangle((x - dx, y - dy, x + dx, y + dy), fill=color)
        else:
            canvas.polygon([(x - dx, y + dy), (x, y - dy), (x + dx, y + dy)], fill=color)
    return image


def encoded_again(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """As JPEG of quality 50 to 95."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(random.integers(50, 96)))
    return Image.open(buffer).convert("RGB")


def resized(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """By 0.5 to 2, with one of three filters."""
    scale = float(np.exp(random.uniform(np.log(0.5), np.log(2))))
    size = tuple(round(side * scale) for side in image.size)
    return image.resize(size, _FILTERS[int(random.integers(3))])  # type: ignore[arg-type]


def cropped(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Up to 5 % of each side gone, from anywhere."""
    width, height = (int(np.ceil(side * random.uniform(0.95, 1))) for side in image.size)
    x, y = (int(random.integers(0, whole - part + 1)) for whole, part in zip(image.size, (width, height), strict=True))
    return image.crop((x, y, x + width, y + height))
