"""From the bytes of a file to RGB pixels, or the reason why not.

What a stranger's folder holds is opened with suspicion: the header alone decides about format and size before anything
is decoded, and every way in which decoding can fail is one named reason.
"""

from __future__ import annotations

import hashlib
import io
import struct
import warnings
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast

from PIL import Image, UnidentifiedImageError

from infinity.data.images.colours import profile_of
from infinity.data.images.headers import BrokenHeaderError, Header, foreign_content, read_header
from infinity.data.images.optional_formats import NAMES, can_read
from infinity.data.images.orientation import orientation_of, turned_box, upright, with_turn, without_exif
from infinity.data.images.resizing import Box
from infinity.data.images.rgb import scale_clear, to_rgb
from infinity.data.images.stated_colours import HDR
from infinity.data.memory import picture_bytes

UnreadableReason = Literal[
    "missing_file",
    "not_accessible",
    "empty_file",
    "file_too_large",
    "not_a_picture",
    "format",
    "too_many_pixels",
    "too_much_memory",
    "too_many_frames",
    "too_much_metadata",
    "polyglot",
    "truncated",
    "corrupt",
    "bad_row",
    "bad_file",
    "row_too_large",
    "labels",
    "outside_source",
    "unsafe_member",
    "bad_response",
    "url_malformed",
    "url_scheme",
    "address_not_public",
    "host_unknown",
    "opted_out",
    "no_connection",
    "timed_out",
    "http_status",
    "too_many_redirects",
    "body_too_large",
    "body_incomplete",
]

FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif"}
FORMATS |= {"AVIF": "avif", "BMP": "bmp", "TIFF": "tif", "JPEG2000": "jp2"}
"""Formats that are always read, and their file endings; see ``optional_formats`` for others."""

_STORED = ("JPEG", "PNG", "WEBP")
_STORED_STARTS = {b"\xff\xd8": "JPEG", b"\x89PNG": "PNG", b"RIFF": "WEBP"}
_OTHERS = ("ICO", "PSD", "TGA", "PPM")  # told apart in messages, never decoded
_NOT_READ = {
    b"II\xbc\x01": "JPEG XR",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"DDS ": "DDS",
    b"qoif": "QOI",
    b"<svg": "SVG",
    b"FUJIFILMCCD-RAW": "raw of a camera",
}
"""Starts of formats that no decoder here reads, and their names."""

_SNIFF_BYTES = 2**16

MAX_FRAMES = 1000
"""Most pictures of an animation, or scans of a progressive JPEG."""

MAX_METADATA_BYTES = 8 * 2**20
"""Most bytes of text, profiles and EXIF; Pillow itself unpacks at most 1 MB of each compressed text."""

MAX_PIXELS = 2**28
"""Most pixels that any setting allows: what the largest sensors of phones have, and a third more."""

_HOW_TO_ALLOW = "; raise filters.max_pixels, or store smaller pictures (storing.side_px)"

LFS_POINTER = "a pointer of Git LFS in the place of the file; fetch the files with git lfs pull"


def is_lfs_pointer(start: bytes) -> bool:
    """Return whether a file is what Git leaves in the place of a large one, by its first 64 bytes."""
    return start.startswith(b"version https://git-lfs.github.com/spec/")


class UnreadableError(ValueError):
    """A picture or a row of the source cannot be used; ``reason`` is the slug that is counted."""

    def __init__(self, reason: UnreadableReason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason.replace('_', ' ')}: {self.detail}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """A picture that was decoded without complaint.

    Attributes:
        image: RGB in sRGB, upright, transparency replaced by white.
        extension: Ending of the file that will be stored: the original's if its bytes can stay, else ``png``.
        keep_bytes: Whether the original bytes show exactly ``image`` to every reader, so that they can be stored.
        size: Width and height of the picture, upright; ``image`` is smaller if it was decoded at a fraction.
        converted_from: Name of the colour profile that it had instead of sRGB; empty if its numbers are the file's.
        box: Left, top, right and bottom of what the picture covers of ``image``, in pixels; None is all of it. A side
            that the fraction does not divide has a last row of pixels that is covered in part only.
    """

    image: Image.Image
    extension: str
    keep_bytes: bool
    size: tuple[int, int]
    converted_from: str = ""
    box: Box | None = None

    @property
    def pixels_sha256(self) -> bytes:
        """32 bytes that are equal exactly for pictures with the same size and the same pixels, as far as decoded."""
        hashed = _HashedPixels(self.image.size)
        hashed.digest.update(struct.pack("<II", *self.size))
        self.image.save(cast(BinaryIO, hashed), "PPM")
        return hashed.digest.digest()

    def encode(self) -> bytes:
        """Return a PNG of the same pixels, for where the original bytes cannot stay."""
        buffer = io.BytesIO()
        self.image.save(buffer, format="PNG", compress_level=3)  # 6 takes twice the time for 3 % of the bytes
        return buffer.getvalue()


class _HashedPixels:
    """File object into which Pillow writes a PPM: the pixels are hashed piece by piece, without a copy of them all."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.digest = hashlib.sha256()
        self._header_bytes = len(b"P6\n%d %d\n255\n" % size)

    def write(self, data: bytes) -> int:
        header = min(self._header_bytes, len(data))
        self._header_bytes -= header
        self.digest.update(memoryview(data)[header:])
        return len(data)

    def flush(self) -> None:
        """Do nothing, since nothing is held back; Pillow calls this."""


def decode(data: bytes, max_pixels: int, max_memory_bytes: int | None = None, side_px: int | None = None) -> Decoded:
    """Decode one picture completely; of a moving one the first frame.

    Args:
        data: A whole file.
        max_pixels: Largest width times height that is decoded; more is refused from the header.
        max_memory_bytes: Largest need of memory, the file included, as far as the header tells; None is what
            ``picture_bytes`` says for ``max_pixels``.
        side_px: A JPEG may be decoded at a half, quarter or eighth of its size, as long as the shorter side keeps this
            many pixels; its coefficients are read to the end all the same. None decodes at full size.

    Raises:
        UnreadableError: The picture cannot be used; ``reason`` says why.
    """
    header = check_header(data, max_pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about odd metadata
        limit = picture_bytes(max_pixels) if max_memory_bytes is None else max_memory_bytes
        advice = _HOW_TO_ALLOW if max_memory_bytes is None else ""
        copy = 4 * _decoded_pixels(header, side_px)
        need = len(data) + copy + header.width_px * header.height_px * header.buffer_bytes_per_px
        _check_memory(header, need, limit, advice)
        image = _open(data, header.format)
        plain = image.mode in ("RGB", "L") and "transparency" not in image.info
        is_rgb = plain and image.mode == "RGB"
        need += copy * (not is_rgb)
        _check_memory(header, need, limit, advice)
        drafted = None
        if side_px is not None:
            drafted = image.draft(None, (side_px, side_px))  # only JPEG knows how
        try:
            scale_clear(image)
            image.load()
            if header.format in NAMES and not getattr(image, "jpeg", False):  # its decoder has turned it
                image = without_exif(image)
            orientation = orientation_of(image)  # some formats keep it behind the pixels
            turned, swapped = orientation != 1, orientation >= 5
            profile = profile_of(image, header.codes, header.profile)
            copies = turned + 2 * (profile is not None and not is_rgb)
            _check_memory(header, need + copy * copies, limit, advice)
            if profile is not None:
                image = with_turn(profile.to_srgb(image), image)
            box = None if drafted is None else turned_box(drafted[1], image.size, orientation)
            rgb = to_rgb(upright(image))
        except UnreadableError:
            raise
        except Exception as error:  # broken files make decoders raise nearly anything; the reason is kept and counted
            raise UnreadableError(_reason(error), str(error) or type(error).__name__) from error
    still = header.format == "JPEG" or header.num_frames == 1
    keep = header.format in _STORED and plain and still and not turned and profile is None
    extension = FORMATS[header.format] if keep else "png"
    size = rgb.size  # what is turned already when it is loaded, as TIFF, says so in no header
    if drafted is not None:
        size = (header.height_px, header.width_px) if swapped else (header.width_px, header.height_px)
    converted = "" if profile is None else profile.name
    return Decoded(image=rgb, extension=extension, keep_bytes=keep, size=size, converted_from=converted, box=box)


def check_header(data: bytes, max_pixels: int) -> Header:
    """Refuse from its container alone what is too large, too long, hides something, or is no picture.

    Raises:
        UnreadableError: The picture cannot be used; ``reason`` says why.
    """
    if not data:
        raise UnreadableError("empty_file", "the file is empty")
    try:
        header = read_header(data)
    except BrokenHeaderError as error:
        raise UnreadableError("truncated", f"begins as a picture, but {error}") from error
    if header is None:
        raise _unidentified(data)
    if header.format in NAMES and not can_read(header.format):
        kind = NAMES[header.format]
        raise UnreadableError(
            "format",
            f"{kind} needs a library that is not installed (pip install 'infinity-t2i[formats]'); or save it as PNG",
        )
    if header.width_px * header.height_px > max_pixels:
        raise UnreadableError(
            "too_many_pixels", f"{header.width_px} x {header.height_px} pixels, more than {max_pixels:,}"
        )
    if header.num_frames > MAX_FRAMES:
        raise UnreadableError("too_many_frames", f"{header.num_frames:,} frames or scans, more than {MAX_FRAMES:,}")
    if header.metadata_bytes > MAX_METADATA_BYTES:
        raise UnreadableError(
            "too_much_metadata", f"{header.metadata_bytes:,} bytes of metadata, more than {MAX_METADATA_BYTES:,}"
        )
    if header.codes is not None and header.codes[1] in HDR:
        kind = HDR[header.codes[1]]
        raise UnreadableError("format", f"{header.format} in HDR ({kind}), which has no levels of sRGB; save it in SDR")
    if (hidden := foreign_content(data, header)) is not None:
        raise UnreadableError("polyglot", f"behind the picture lies other content that begins with {hidden!r}")
    return header


def check_opened(name: str, image: Image.Image) -> None:
    """Read the pixels of an opened picture, and what some formats keep behind them: profile and EXIF.

    Raises:
        ValueError: It has no pixel, was closed, or its file is damaged; the message begins with ``name``.
    """
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise ValueError(f"{name}: expected a picture that can be read, found one that cannot ({error})") from error
    if 0 in image.size:
        raise ValueError(f"{name}: expected a picture with pixels, found {image.width} x {image.height}")


def as_shown(image: Image.Image) -> Image.Image:
    """Return an opened picture as ``decode`` gives its file: its colour profile followed, upright, RGB of 8 bits.

    The result has no metadata, which would be followed twice.

    Raises:
        ValueError: The picture has no pixel, or they cannot be read.
    """
    scale_clear(image)
    check_opened("image", image)
    profile = profile_of(image)
    return plain(to_rgb(upright(image if profile is None else with_turn(profile.to_srgb(image.copy()), image))))


def plain(image: Image.Image) -> Image.Image:
    """Return the pixels of a picture alone, without its metadata."""
    copy = image.copy()
    copy.info = {}
    return copy


def open_unguarded(data: bytes, format: str = "") -> Image.Image:
    """Open a picture whose size was checked before; unlike ``Image.open``, this has no limit of pixels of its own.

    Args:
        format: Pillow's name of its format; empty for a picture of a data set.

    Raises:
        UnidentifiedImageError: The picture has another format, or its header is broken.
    """
    format = format or next((name for start, name in _STORED_STARTS.items() if data.startswith(start)), "")
    Image.init()
    open_file, accepts = Image.OPEN.get(format, (None, None))
    accepted = accepts is None or accepts(data[:16])
    if open_file is None or not accepted or isinstance(accepted, str):
        raise UnidentifiedImageError(f"cannot identify a picture that begins with {data[:16]!r}")
    try:
        return open_file(io.BytesIO(data), "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:  # as Image.open has it
        raise UnidentifiedImageError(str(error)) from error


def _decoded_pixels(header: Header, side_px: int | None) -> int:
    """Return how many pixels are decoded of a picture: a JPEG may be decoded at a fraction."""
    width, height, fraction = header.width_px, header.height_px, 1
    if header.format == "JPEG" and side_px is not None:
        fits = min(width // side_px, height // side_px)
        fraction = next((each for each in (8, 4, 2) if fits >= each), 1)
    return -(-width // fraction) * -(-height // fraction)


def _check_memory(header: Header, need: float, limit: int, advice: str) -> None:
    if need > limit:
        raise UnreadableError(
            "too_much_memory",
            f"{header.width_px} x {header.height_px} pixels of this kind of {header.format} take {need / 2**20:,.0f} "
            f"MB to decode, more than {limit / 2**20:,.0f}{advice}",
        )


def _open(data: bytes, format: str) -> Image.Image:
    """Let Pillow read the header."""
    try:
        return open_unguarded(data, format)
    except UnidentifiedImageError as error:
        if format in ("TIFF", "BMP"):
            raise UnreadableError("format", f"a kind of {format} that is not read") from error
        raise UnreadableError("truncated", "begins as a picture, but the header is incomplete or broken") from error
    except Exception as error:  # a header that begins well and goes on badly
        raise UnreadableError(_reason(error), str(error) or type(error).__name__) from error


def _unidentified(data: bytes) -> UnreadableError:
    """Tell a picture of another format from something that is no picture."""
    if len(data) < 12 and any(data.startswith(start) for start in (b"\xff\xd8", b"\x89PNG", b"GIF8", b"RIFF")):
        return UnreadableError("truncated", f"only {len(data)} bytes: {data!r}")
    if is_lfs_pointer(data):
        return UnreadableError("not_a_picture", LFS_POINTER)
    if (name := _known_name(data)) is not None:
        return UnreadableError("format", f"{name} is not one of {', '.join(FORMATS)}; save it as PNG or JPEG")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            name = str(Image.open(io.BytesIO(data[:_SNIFF_BYTES]), formats=_OTHERS).format)
    except Exception:  # no decoder knows it
        return UnreadableError("not_a_picture", f"begins with {data[:16]!r}")
    return UnreadableError("format", f"{name} is not one of {', '.join(FORMATS)}; save it as PNG or JPEG")


def _known_name(data: bytes) -> str | None:
    """Return the name of a format that people have and no decoder here reads, by its first bytes."""
    if data[4:12] == b"ftypcrx ":
        return "raw of a camera"
    return next((name for start, name in _NOT_READ.items() if data.startswith(start)), None)


def _reason(error: Exception) -> UnreadableReason:
    text = str(error).lower()
    if isinstance(error, MemoryError):
        return "too_much_memory"
    if "max_text" in text or "too much memory used in text chunks" in text:
        return "too_much_metadata"
    cut = any(word in text for word in ("truncated", "incomplete", "unexpected end", "eof", "not enough"))
    return "truncated" if cut else "corrupt"
