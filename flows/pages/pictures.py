"""Pictures that a run page can show: inside the markdown, since a browser refuses pages that name local files."""

import base64
import io

from PIL import Image

from infinity import storage
from infinity.reporting.summary import Sheet

MAX_BYTES = 300_000
MAX_SIDE_PX = 1600


def embedded(uri: str, *, max_bytes: int = MAX_BYTES) -> str:
    """Return a picture as ``data:`` URI of at most ``max_bytes`` before base64: the PNG itself, or a JPEG of it.

    Raises:
        StorageError: The picture is not there.
    """
    return embedded_png(storage.read_bytes(uri), max_bytes=max_bytes)


def embedded_png(data: bytes, *, max_bytes: int = MAX_BYTES) -> str:
    """Return a file as ``data:`` URI of at most ``max_bytes`` before base64: a PNG itself, or a JPEG of it."""
    if len(data) <= max_bytes and data.startswith(b"\x89PNG"):
        return _data_uri("png", data)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    for quality in (90, 75, 50):
        data = _jpeg(image, quality)
        if len(data) <= max_bytes:
            return _data_uri("jpeg", data)
    while len(data) > max_bytes:
        image = image.resize((max(1, image.width * 2 // 3), max(1, image.height * 2 // 3)))
        data = _jpeg(image, 75)
    return _data_uri("jpeg", data)


def figure(sheet: Sheet, *, max_bytes: int = MAX_BYTES) -> str:
    """Return Markdown of one sheet: its title, the picture, and its captions as a list."""
    title = inline(sheet.title)
    captions = "".join(f"{number}. {inline(caption)}\n" for number, caption in enumerate(sheet.captions, start=1))
    return f"### {title}\n\n![{title}]({embedded(sheet.image, max_bytes=max_bytes)})\n\n{captions}"


def inline(text: str) -> str:
    """Return a caption or name as one line of markdown that means nothing but itself."""
    flat = " ".join(text.split())
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>()#+-!|" else char for char in flat)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
