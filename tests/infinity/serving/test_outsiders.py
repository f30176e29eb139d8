"""Hostile bodies, pictures, headers and paths are answered in OpenAI's shape, and drawing goes on."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import random
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from infinity.generation.editing.masks import mask_of
from infinity.generation.files.picture_files import DrawingSettings, EditRecord, to_png
from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.serving.app import PictureServer
from infinity.serving.drawing import DrawingRoom
from infinity.serving.settings import ServingConfig, ServingLimits, key_digest
from tests.fixtures.data.small_world import write_model

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
JSON = {"Content-Type": "application/json"}
KEY = "k" * 20
Work = Callable[[httpx.AsyncClient], Awaitable[Any]]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServingConfig:
    return ServingConfig(model=write_model(tmp_path_factory.mktemp("served")), device="cpu")


@pytest.fixture(scope="module")
def room(config: ServingConfig) -> DrawingRoom:
    return DrawingRoom(config)


@pytest.fixture(scope="module")
def pipe(room: DrawingRoom) -> InfinityPipeline:
    return room.pipe


def during(config: ServingConfig, room: DrawingRoom, work: Work) -> Any:
    """Run some requests against an application without a network; an exception that leaves it fails the test."""
    server = PictureServer(config, room)

    async def run() -> Any:
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000", timeout=300) as client:
            try:
                return await work(client)
            finally:
                await server.batcher.close()

    return asyncio.run(run())


def error_of(response: httpx.Response, *statuses: int) -> str:
    """Return the sentence of a refused request, whose shape is checked."""
    assert response.status_code in (statuses or (400,)), (response.status_code, response.text)
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert len(error["message"]) < 600
    assert "Traceback" not in response.text
    return str(error["message"])


def send(config: ServingConfig, room: DrawingRoom, path: str = GENERATIONS, **more: Any) -> httpx.Response:
    async def work(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(path, **more)

    found: httpx.Response = during(config, room, work)
    return found


def png(image: Image.Image | np.ndarray, form: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, form, **more)
    return file.getvalue()


WHITE = png(np.full((24, 24), 255, np.uint8))
PICTURE = png(np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3))


def edited(config: ServingConfig, room: DrawingRoom, image: bytes, mask: bytes | None = WHITE, **data: Any) -> Any:
    files = {"image": ("i.png", image)} | ({} if mask is None else {"mask": ("m.png", mask)})
    return send(config, room, EDITS, files=files, data={"prompt": "a"} | data)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"prompt": "a", "prompt": "b"}', "found a key twice"), (b'{"prompt": "a"', "found not JSON"),
        (b'{"prompt": "a", "seed": 1e999}', "found a number beyond 1.8e308"),
        (b'{"prompt": "a", "seed": 99999999999999999999}', "whole number of more than 64 bits"),
        (b'{"prompt": "a", "seed": NaN}', "found NaN or infinity, which JSON does not have"),
        (b'{"prompt": "\\ud800"}', "found half of a character"), ('{"prompt": "a"}'.encode("utf-16"), "not UTF-8"),
        (b'"prompt"', "found str"), (b"null", "found NoneType"), (b"[" * 90_000, "found too many brackets"),
        (b'{"prompt": ' + b"[" * 99 + b"]" * 99 + b"}", "prompt: expected a text, found a list"),
        (b"", "found not JSON"),
        (b'{"prompt": null}', "prompt: expected a text, found none"),
        (b'{"prompt": "a", "api_key": "sk-secret"}', "unknown field 'api_key'"),
    ],
)  # fmt: skip
def test_hostile_json_is_one_sentence(config: ServingConfig, room: DrawingRoom, body: bytes, words: str) -> None:
    response = send(config, room, content=body, headers=JSON)
    assert words in error_of(response)
    assert "sk-secret" not in response.text


def test_bodies_are_taken_by_their_type_alone(config: ServingConfig, room: DrawingRoom) -> None:
    body = b'{"prompt": "a"}'
    for kind in ("text/plain", "application/jsonp", "multipart/mixed; boundary=x", "application/xml", ""):
        error_of(send(config, room, content=body, headers={"Content-Type": kind}), 415)
    error_of(send(config, room, content=zlib.compress(body), headers=JSON | {"Content-Encoding": "deflate"}), 415)
    assert send(config, room, content=body, headers={"Content-Type": "Application/JSON; charset=utf-8"}).is_success


def test_a_body_that_never_ends_or_grows_too_long_is_refused(config: ServingConfig, room: DrawingRoom) -> None:
    async def drops(pause_s: float) -> Any:
        while True:
            yield b" " * 100
            await asyncio.sleep(pause_s)

    slow = config.replace(limits=ServingLimits(body_timeout_s=0.2))
    assert "did not come within" in error_of(send(slow, room, content=drops(0.05), headers=JSON), 408)
    small = config.replace(limits=ServingLimits(max_body_bytes=1000))
    assert "at most 1,000 bytes" in error_of(send(small, room, content=drops(0), headers=JSON), 413)
    for length in ("1001", "9" * 40):
        response = send(small, room, content=b"{}", headers=JSON | {"Content-Length": length})
        assert "at most 1,000 bytes" in error_of(response, 413)


def test_forms_hold_each_field_once_and_values_by_their_type(config: ServingConfig, room: DrawingRoom) -> None:
    def form(*parts: tuple[str, bytes]) -> str:
        files = [(name, (None, content)) for name, content in (("prompt", b"a"), *parts)]
        return error_of(send(config, room, EDITS, files=files))

    image = ("image", PICTURE)
    assert form(image, image) == "'image': expected once in the form, found twice"
    assert form(image, ("image[]", PICTURE)) == "'image': expected once in the form, found twice"
    assert form(("prompt", b"b"), image) == "'prompt': expected once in the form, found twice"
    assert form(image, ("n", b"two")).startswith("n: expected a whole number")
    assert form(image, ("n", b"1.0")).startswith("n: expected a whole number")
    assert form(image, ("seed", b"9223372036854775808")).startswith("seed: expected a whole number")
    assert form(image, ("guidance", b"NaN")) == "guidance: expected a number"
    assert form(image, ("stream", b"1")) == "stream: expected true or false"
    assert form(image, ("negative_prompt", b"\xff")) == "'negative_prompt': expected a text in UTF-8"
    assert form(image, ("loras[../../x]", b"1")) == "loras: this server has none"
    assert form(image, ("loras[a]", b"1"), ("loras", b"{}")) == "'loras': expected once in the form, found twice"
    assert form(image, ("\u202e", b"1")).startswith("unknown field '\\u202e'")
    assert form() == "image: expected a picture in a form (multipart/form-data)"


def test_paths_and_methods_that_are_not_there(config: ServingConfig, room: DrawingRoom) -> None:
    async def work(client: httpx.AsyncClient) -> None:
        for path in (
            "/v1",
            "/v1/images",
            f"{GENERATIONS}/",
            "/v1/images/variations",
            "/page.js/x",
            "/../etc/passwd",
            "/%00",
        ):
            error_of(await client.post(path, json={"prompt": "a"}), 404)
            error_of(await client.get(path), 404)
        for method, path in (
            ("GET", GENERATIONS), ("PUT", EDITS), ("DELETE", "/v1/models"), ("OPTIONS", GENERATIONS),
            ("POST", "/health"),
            ("POST", "/"), ("TRACE", "/metrics"),
        ):  # fmt: skip
            response = await client.request(method, path)
            assert error_of(response, 405).endswith(f"found {method}")
            assert response.headers["allow"]
        for path in ("/", "/health", "/metrics", "/v1/models"):
            assert (await client.head(path)).status_code == 200
        assert (await client.head(GENERATIONS)).status_code == 405

    during(config, room, work)


def test_keys_are_read_from_one_header_alone_and_never_told(config: ServingConfig, room: DrawingRoom) -> None:
    keyed = config.replace(key_digests=(key_digest(KEY),))

    async def work(client: httpx.AsyncClient) -> None:
        for headers in (
            {}, {"X-API-Key": KEY}, {"Authorization": KEY},
            {"Authorization": f"Basic {KEY}"}, {"Api-Key": KEY},
            {"Authorization": f"Bearer {KEY[:-1]}"}, {"Authorization": f"Bearer {KEY}{KEY}"}, {"Cookie": f"key={KEY}"},
            {"Authorization": b"Bearer \xff\xfe"}, {"Authorization": "Bearer"},
            {"Proxy-Authorization": f"Bearer {KEY}"},
        ):  # fmt: skip
            for path in (GENERATIONS, EDITS):
                response = await client.post(f"{path}?api_key={KEY}", content=b"{", headers=headers)
                error_of(response, 401)
                assert response.headers["www-authenticate"] == "Bearer"
                assert response.json()["error"]["code"] == "invalid_api_key"
                assert KEY[:-1] not in response.text
            for path in ("/v1/models", "/metrics"):
                error_of(await client.get(path, headers=headers), 401)
        for origin in ("http://[", "null", "", "http://localhost:8000.evil", "\x00", "file://"):
            headers = {"Authorization": f"Bearer {KEY}", "Origin": origin}
            error_of(await client.post(GENERATIONS, json={"prompt": "a"}, headers=headers), 403)

    during(keyed, room, work)


def test_failures_within_are_told_without_their_text_whole_and_streamed(
    config: ServingConfig, room: DrawingRoom, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        pipe, adapters, schedule = room.pipe, room.adapters, room.schedule

        def compute(self, batch: Any) -> Any:
            raise RuntimeError(f"cannot draw {batch[0].work.prompt}")

    with caplog.at_level(logging.DEBUG):
        whole = send(config, Broken(), json={"prompt": "a secret"})  # type: ignore[arg-type]
        streamed = send(config, Broken(), json={"prompt": "a secret", "stream": True})  # type: ignore[arg-type]
    assert error_of(whole, 500) == "the server failed at this request"
    (line,) = [line for line in streamed.text.splitlines() if line.startswith("data: ")]
    assert json.loads(line[6:])["error"]["message"] == "the server failed at this request"
    assert "secret" not in whole.text + streamed.text + caplog.text
    assert caplog.text.count("a request failed: RuntimeError") == 2


def test_a_stream_that_is_cut_takes_its_pictures_out_of_the_queue(config: ServingConfig, room: DrawingRoom) -> None:
    """The application's own interface, since httpx's reads an answer to its end before it gives it."""
    server = PictureServer(config.replace(limits=ServingLimits(batch_wait_s=3600)), room)
    body = json.dumps({"prompt": "a", "n": 4, "stream": True}).encode()
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": GENERATIONS,
             "raw_path": GENERATIONS.encode(), "query_string": b"", "root_path": "", "headers": headers}  # fmt: skip

    async def run() -> None:
        begun = asyncio.Event()
        messages = iter([{"type": "http.request", "body": body}])

        async def receive() -> Any:
            if (message := next(messages, None)) is not None:
                return message
            await begun.wait()
            return {"type": "http.disconnect"}

        async def answer(message: Any) -> None:
            assert message.get("status", 200) == 200
            begun.set()

        await asyncio.wait_for(server.app(scope, receive, answer), 300)
        assert not server.batcher.waiting
        await server.batcher.close()

    asyncio.run(run())


def turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return png(image, "PNG", exif=exif)


HALF = np.zeros((24, 24), dtype=bool)
HALF[:12, 4:20] = True
CLEAR = np.dstack([np.full((24, 24, 3), 90, np.uint8), np.where(HALF, 0, 255).astype(np.uint8)])
GREY = (HALF * 255).astype(np.uint8)


@pytest.mark.parametrize(
    "mask",
    [
        png(GREY), png(CLEAR), png(Image.fromarray(HALF)), png(Image.fromarray(GREY).convert("P")),
        png(GREY.astype(np.uint16) * 257), png(Image.fromarray(GREY).convert("CMYK"), "TIFF"),
        png(Image.fromarray(CLEAR).convert("LA")), png(Image.fromarray(CLEAR).resize((96, 96), 0)),
        png(Image.fromarray(GREY.repeat(10, 0).repeat(10, 1)), "JPEG"),
        png(Image.fromarray(CLEAR), "WEBP", lossless=True),
        png(Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.new("L", (24, 24))]),
        turned(Image.fromarray(GREY).transpose(Image.Transpose.ROTATE_90)),
        turned(Image.fromarray(CLEAR).transpose(Image.Transpose.ROTATE_90)),
    ],
)  # fmt: skip
def test_a_mask_of_any_kind_marks_the_same_pixels(mask: bytes) -> None:
    found = mask_of(mask)
    step = found.shape[0] // 24
    assert np.array_equal(found[step // 2 :: step, step // 2 :: step], HALF)


def test_a_picture_that_is_turned_or_moves_is_edited_as_it_looks(config: ServingConfig, room: DrawingRoom) -> None:
    upright = Image.open(io.BytesIO(PICTURE))
    side = upright.transpose(Image.Transpose.ROTATE_90)
    moving = png(upright.convert("P"), "GIF", save_all=True, append_images=[Image.new("P", (24, 24))])
    still = png(Image.open(io.BytesIO(moving)).convert("RGB"))
    mask = png(GREY)
    for one, other in ((PICTURE, turned(side)), (still, moving)):
        first, second = (edited(config, room, image, mask, seed="3") for image in (one, other))
        assert first.is_success, first.text
        bits = [DrawingSettings.parse(_text(each), where="").edit for each in (first, second)]
        assert bits[0] == bits[1]


def _text(response: httpx.Response) -> str:
    data = base64.b64decode(response.json()["data"][0]["b64_json"])
    return str(Image.open(io.BytesIO(data)).text["infinity"])  # type: ignore[attr-defined]


def test_transparent_pixels_of_the_picture_are_the_mask_where_there_is_none(
    config: ServingConfig, room: DrawingRoom
) -> None:
    image = png(CLEAR)
    with_mask, without = (edited(config, room, image, mask, seed="3") for mask in (png(GREY), None))
    assert with_mask.json()["data"] == without.json()["data"]
    assert error_of(edited(config, room, PICTURE, None)) == (
        "mask: expected a mask, keep_scales, or an image with transparent pixels"
    )


@pytest.mark.parametrize(
    ("image", "mask", "data", "words"),
    [
        (PICTURE, b"", {}, "mask: empty file"), (b"", WHITE, {}, "image: empty file"),
        (PICTURE, WHITE[:40], {}, "mask: truncated"), (PICTURE[:100], WHITE, {}, "image: truncated"),
        (b"<svg onload=alert(1)>", WHITE, {}, "image: format: SVG is not one of"),
        (PICTURE, b"%PDF-1.4", {}, "mask: not a picture"),
        (PICTURE, png(np.zeros((24, 24), np.uint8)), {}, "mask: covers less than"),
        (png(Image.new("1", (5000, 4000))), WHITE, {}, "image: too many pixels"),
        (PICTURE, png(Image.new("1", (5000, 4000))), {}, "mask: too many pixels"),
        (PICTURE, None, {"keep_scales": "4"}, "keep_scales: expected 1 to 3"),
        (PICTURE, WHITE, {"size": "512x1024"}, "size: expected the shape of the picture"),
        (PICTURE + b"<script>alert(1)</script>", WHITE, {}, "image: polyglot"),
    ],
)  # fmt: skip
def test_a_picture_that_cannot_be_edited_is_named(
    config: ServingConfig, room: DrawingRoom, image: bytes, mask: bytes | None, data: dict[str, str], words: str
) -> None:
    assert words in error_of(edited(config, room, image, mask, **data))


def hostile_settings(pipe: InfinityPipeline) -> list[DrawingSettings]:
    """Settings of pictures that claim to be this model's, so that it would draw them again."""
    (good,) = pipe("a").settings
    bomb = base64.b64encode(zlib.compress(bytes(10**7), 9)).decode()
    return [
        good.replace(guidance=(1.0,)), good.replace(guidance=()), good.replace(aspect_ratio=7.3),
        good.replace(aspect_ratio=-1.0), good.replace(guided_blocks=(99,)), good.replace(pruned=(0.5,) * 9),
        good.replace(temperature=0.0), good.replace(top_p=9.0), good.replace(prompt="x" * 500_000),
        good.replace(edit=EditRecord(source_bits="AAAA", kept_tokens="AAAA")),
        good.replace(edit=EditRecord(source_bits=bomb, kept_tokens=bomb)),
        good.replace(edit=EditRecord(source_bits="\u202e", kept_tokens="?")),
        good.replace(edit=EditRecord(later_prompt="b", later_scale=-5)),
        good.replace(edit=EditRecord(later_prompt="b", later_scale=10**9)),
    ]  # fmt: skip


def test_settings_in_a_picture_are_believed_as_little_as_its_pixels(
    config: ServingConfig, room: DrawingRoom, pipe: InfinityPipeline
) -> None:
    pixels = np.zeros((24, 24, 3), np.uint8)
    for settings in hostile_settings(pipe):
        response = edited(config, room, to_png(pixels, settings))
        if response.status_code != 200:
            assert error_of(response).startswith("image: ")


def test_damaged_bytes_of_pictures_are_refused_or_read(pipe: InfinityPipeline, tmp_path: Path) -> None:
    """Random damage to the files of our own pictures and masks; nothing but a ValueError may come of it."""
    from infinity.generation.drawing.own_pictures import source_of

    (path,) = pipe("a").save(tmp_path)
    numbers = random.Random(0)
    refused = 0
    for good in (path.read_bytes(), png(CLEAR), turned(Image.fromarray(CLEAR))):
        for _ in range(100):
            data = bytearray(good)
            for _ in range(numbers.randrange(1, 6)):
                data[numbers.randrange(len(data))] = numbers.randrange(256)
            cut = bytes(data[: numbers.randrange(len(data)) if numbers.random() < 0.3 else len(data)])
            for read in (mask_of, lambda each: source_of(pipe, each, where="image", max_pixels=10_000)):
                try:
                    read(cut)
                except ValueError:
                    refused += 1
    assert refused > 100
