"""Pictures that are written as text are told from names of files, whatever those look like."""

import base64

import pytest

from infinity.data.sources.inline_pictures import picture_in_text
from tests.fixtures.data.pictures_on_disk import encoded, noise

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("start", ["", "data:image/png;base64,", "DATA:image/svg+xml;charset=utf-8;base64,"])
def test_pictures_in_base64_are_read_in_every_format(format: str, start: str) -> None:
    data = encoded(noise(), format=format)
    text = base64.b64encode(data).decode()
    assert picture_in_text(start + text) == data
    assert picture_in_text(start + "\n".join(text[at : at + 76] for at in range(0, len(text), 76))) == data


@pytest.mark.parametrize(
    "name",
    [
        "cats/1.png",
        "/9j/1.jpg",
        "iVBORw0KGgo.png",
        "/9j/" + "a" * 80 + ".jpg",
        "Qk" + "x" * 100 + "/1.bmp",
        "AAAA" * 40 + "A",
        "data:image/png,plain",
        "data:text/html;base64,AAAA",
        "data:image/png;base64,***",
        "",
    ],
)
def test_names_are_no_pictures(name: str) -> None:
    assert picture_in_text(name) is None
