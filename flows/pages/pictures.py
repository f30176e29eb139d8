"""Pictures that a run page can show: inside the markdown, since a browser refuses pages that name local files."""

import io

from PIL import Image

from flows.pages.links import link
from infinity import storage
from infinity.reporting.summary import Sheet
from infinity.reporting.templates import data_uri

MAX_BYTES = 12_000
"""Bytes of a thumbnail: pages lie in Prefect's database, and the whole picture in its file."""
MAX_SIDE_PX = 960


def embedded(uri: str, *, max_bytes: int = MAX_BYTES) -> str:
    """Return a picture as ``data:`` URI of at most ``max_bytes`` before base64: the PNG itself, or a WebP of it.

    Raises:
        StorageError: The picture is not there.
    """
    return embedded_png(storage.read_bytes(uri), max_bytes=max_bytes)


def embedded_png(data: bytes, *, max_bytes: int = MAX_BYTES) -> str:
    """Return a file as ``data:`` URI of at most ``max_bytes`` before base64: a PNG itself, or a WebP of it."""
    if len(data) <= max_bytes and data.startswith(b"\x89PNG"):
        return data_uri(data)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    for quality in (90, 75, 50, 30):
        data = _webp(image, quality)
        if len(data) <= max_bytes:
            return data_uri(data, "webp")
    while len(data) > max_bytes:
        image = image.resize((max(1, image.width * 2 // 3), max(1, image.height * 2 // 3)))
        data = _webp(image, 75)
    return data_uri(data, "webp")


def figure(sheet: Sheet, *, max_bytes: int = MAX_BYTES) -> str:
    """Return Markdown of one sheet: its title, a thumbnail, a link to the picture, and its captions as a list."""
    title = inline(sheet.title)
    captions = "".join(f"{number}. {inline(caption)}\n" for number, caption in enumerate(sheet.captions, start=1))
    picture = f"![{title}]({embedded(sheet.image, max_bytes=max_bytes)})"
    return f"### {title}\n\n{picture}\n\nThe whole picture: {link(sheet.image)}\n\n{captions}"


def inline(text: str) -> str:
    """Return a caption or name as one line of markdown that means nothing but itself."""
    flat = " ".join(text.split())
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>()#+-!|" else char for char in flat)


def _webp(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()
