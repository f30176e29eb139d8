"""The server gives the bits of every other door, and answers whatever comes with one sentence."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.serving.app import PictureServer
from infinity.serving.drawing import DrawingRoom
from infinity.serving.settings import ServingConfig, ServingLimits, key_digest, read_keys
from infinity.transformer.adapters.lora import Adapter, LowRank
from infinity.transformer.adapters.lora_files import save_adapter
from tests.fixtures.data.small_world import write_model

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
KEY = "k" * 20


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ServingConfig:
    folder = tmp_path_factory.mktemp("served")
    model = write_model(folder)
    place = "blocks.0.feed_forward.expand"
    out, inner = InfinityPipeline.from_pretrained(model).pipeline.transformer.get_submodule(place).weight.shape
    numbers = torch.Generator().manual_seed(0)
    layer = LowRank(torch.randn(2, inner, generator=numbers), torch.randn(out, 2, generator=numbers), 1.0)
    save_adapter(str(folder / "lora"), Adapter("wild", {place: layer}, ""))
    return ServingConfig(model=model, device="cpu", adapters={"wild": str(folder / "lora")})


@pytest.fixture(scope="module")
def room(config: ServingConfig) -> DrawingRoom:
    return DrawingRoom(config)


@pytest.fixture(scope="module")
def pipe(config: ServingConfig) -> InfinityPipeline:
    return InfinityPipeline.from_pretrained(config.model, device="cpu")


def during(server: PictureServer, work: Callable[[httpx.AsyncClient], Awaitable[Any]]) -> Any:
    """Run some requests against the application, without a network."""

    async def run() -> Any:
        transport = httpx.ASGITransport(server.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000", timeout=300) as client:
            try:
                return await work(client)
            finally:
                await server.batcher.close()

    return asyncio.run(run())


def post(server: PictureServer, body: Any = None, path: str = GENERATIONS, **more: Any) -> httpx.Response:
    async def work(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(path, **({"json": body} if body is not None else {}), **more)

    found: httpx.Response = during(server, work)
    return found


def pngs(response: httpx.Response) -> list[bytes]:
    assert response.status_code == 200, response.text
    return [base64.b64decode(entry["b64_json"]) for entry in response.json()["data"]]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def files_of(pipe: InfinityPipeline, folder: Path, *arguments: Any, **more: Any) -> list[bytes]:
    return [path.read_bytes() for path in pipe(*arguments, **more).save(folder)]


def test_files_are_those_of_python_byte_for_byte(
    config: ServingConfig, room: DrawingRoom, pipe: InfinityPipeline, tmp_path: Path
) -> None:
    body = {"prompt": "a red cube", "n": 3, "seed": 7, "guidance": 2, "size": "512x1024", "temperature": 0.8}
    found = pngs(post(PictureServer(config, room), body))
    assert found == files_of(
        pipe, tmp_path, "a red cube", num_images_per_prompt=3, seed=7, guidance_scale=2.0, height=1024, width=512,
        temperature=0.8,
    )  # fmt: skip


@pytest.mark.parametrize(
    "numbers", [{"guidance": [1, 2, 3, 3.5]}, {"temperature": [1, 0.5, 0.5, 2, 9]}, {"guidance": 0, "temperature": 3}]
)
def test_numbers_per_scale_draw_the_files_of_python(
    config: ServingConfig, room: DrawingRoom, pipe: InfinityPipeline, tmp_path: Path, numbers: dict[str, Any]
) -> None:
    names = {"guidance": "guidance_scale"}
    expected = files_of(pipe, tmp_path, "a cube", **{names.get(name, name): value for name, value in numbers.items()})
    assert pngs(post(PictureServer(config, room), {"prompt": "a cube", "seed": 0, **numbers})) == expected


def test_one_picture_through_every_batch(config: ServingConfig, room: DrawingRoom, pipe: InfinityPipeline) -> None:
    """Concurrent clients with other prompts, shapes and settings in one server; each gets what it gets alone."""
    random = np.random.default_rng(0)
    wanted = [
        {
            "prompt": f"picture {random.integers(9)}",
            "seed": int(random.integers(5)),
            "guidance": float(random.choice([1.0, 2.5])),
            "aspect_ratio": float(random.choice([1.0, 2.0])),
            "n": int(random.integers(1, 4)),
        }
        for _ in range(20)
    ]
    server = PictureServer(config.replace(limits=ServingLimits(max_waiting=1000, batch_wait_s=0.1)), room)

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        return list(await asyncio.gather(*(client.post(GENERATIONS, json=body) for body in wanted)))

    for body, response in zip(wanted, during(server, work), strict=True):
        alone = pipe(
            body["prompt"], seed=body["seed"], guidance_scale=body["guidance"], aspect_ratio=body["aspect_ratio"],
            num_images_per_prompt=body["n"], batch_size=1,
        )  # fmt: skip
        assert np.array_equal(np.stack([pixels(png) for png in pngs(response)]), alone.pixels())


def test_adapters_of_a_request_touch_no_other(config: ServingConfig, room: DrawingRoom) -> None:
    server = PictureServer(config, room)
    bodies = [{"prompt": "a", "seed": 1, "loras": loras} for loras in ({}, {"wild": 1.0}, {"wild": 0}, None)]

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        return list(await asyncio.gather(*(client.post(GENERATIONS, json=body) for body in bodies)))

    plain, wild, zero, none = (pixels(pngs(response)[0]) for response in during(server, work))
    assert np.array_equal(plain, none)
    assert np.array_equal(plain, zero)
    assert not np.array_equal(plain, wild)


def stream(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


@pytest.mark.parametrize(("partial", "scales"), [(None, [0, 1, 2]), (0, []), (1, [2]), (2, [1, 2]), (99, [0, 1, 2])])
def test_a_stream_shows_scales_and_ends_with_the_picture(
    config: ServingConfig, room: DrawingRoom, partial: int | None, scales: list[int]
) -> None:
    body = {"prompt": "a red cube", "seed": 2, "n": 2}
    whole = pngs(post(PictureServer(config, room), body))
    response = post(PictureServer(config, room), body | {"stream": True, "partial_images": partial})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = stream(response.text)
    for index in (0, 1):
        own = [event for event in events if event["index"] == index]
        assert [event["scale"] for event in own[:-1]] == scales
        assert [event["partial_image_index"] for event in own[:-1]] == list(range(len(scales)))
        assert own[-1]["type"] == "image_generation.completed"
        assert base64.b64decode(own[-1]["b64_json"]) == whole[index]
        assert all(pixels(base64.b64decode(event["b64_json"])).shape == pixels(whole[0]).shape for event in own)


def png_of(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def test_an_edit_is_that_of_python_with_white_or_transparent_masks(
    config: ServingConfig, room: DrawingRoom, pipe: InfinityPipeline, tmp_path: Path
) -> None:
    drawn = pipe("a red cube", seed=3)
    (path,) = drawn.save(tmp_path)
    mask = np.zeros((24, 24), dtype=bool)
    mask[:12, 4:20] = True
    expected = pipe.edit(drawn, mask, "a blue ball", seed=5, num_images=2).pixels()
    transparent = np.full((24, 24, 4), 255, dtype=np.uint8)
    transparent[mask] = 0
    for sent in (png_of((mask * 255).astype(np.uint8)), png_of(transparent)):
        files = {"image": ("i.png", path.read_bytes()), "mask": ("m.png", sent)}
        response = post(
            PictureServer(config, room), path=EDITS, files=files, data={"prompt": "a blue ball", "seed": "5", "n": "2"}
        )
        assert np.array_equal(np.stack([pixels(png) for png in pngs(response)]), expected)


def test_an_edit_takes_adapters_as_the_page_and_as_clients_of_openai_send_them(
    config: ServingConfig, room: DrawingRoom
) -> None:
    files = {"image": ("i.png", png_of(np.zeros((24, 24, 3), np.uint8)))}
    common = {"prompt": "a", "seed": "5", "keep_scales": "1"}
    plain, page, client = (
        pngs(post(PictureServer(config, room), path=EDITS, files=files, data=common | loras))
        for loras in ({}, {"loras": '{"wild": 1}'}, {"loras[wild]": "1"})
    )
    assert page == client != plain


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt"), ({"prompt": 3}, "prompt"), ({"prompt": "a\0b"}, "NUL"), ({"prompt": "x" * 4001}, "at most 4,000"),
    ({"prompt": "\ud800"}, "found half of a"), ({"prompt": "a", "n": 0}, "n: expected"),
    ({"prompt": "a", "n": 10**9}, "n: expected"), ({"prompt": "a", "n": True}, "n: expected"),
    ({"prompt": "a", "n": 1.5}, "n: expected"), ({"prompt": "a", "size": "0x5"}, "size: expected"),
    ({"prompt": "a", "size": "99999x1"}, "size: expected height"), ({"prompt": "a", "size": [1]}, "size: expected"),
    ({"prompt": "a", "seed": 2**63}, "seed: expected"), ({"prompt": "a", "guidance": "x"}, "guidance: expected"),
    ({"prompt": "a", "guidance": 1e300}, "guidance"), ({"prompt": "a", "temperature": 0}, "temperature"),
    ({"prompt": "a", "top_p": 2}, "above 0 up to 1"), ({"prompt": "a", "response_format": "gif"}, "response_format"),
    ({"prompt": "a", "stream": "yes"}, "stream: expected"), ({"prompt": "a", "loras": {"x": 1}}, "server has wild"),
    ({"prompt": "a", "loras": {"wild": 99}}, "scales from"), ({"prompt": "a", "loras": 1}, "loras: expected"),
    ({"prompt": "a", "guidance": [1, "x", 1, 1]}, "guidance: expected a number"),
    ({"prompt": "a", "guidance": []}, "guidance: expected a number, or a list of one per scale"),
    ({"prompt": "a", "guidance": [1] * 101}, "guidance: expected a number, or a list"),
    ({"prompt": "a", "guidance": [3, 3]}, "guidance: expected one number or at least 4, one per scale, got 2"),
    ({"prompt": "a", "temperature": [1, 1, 0, 1]}, "temperature: expected a number from"),
    ({"prompt": "a", "temperature": [1]}, "temperature: expected one number or at least 4, one per scale, got 1"),
    ({"prompt": "a", "aspect_ratio": -1}, "aspect_ratio"), ({"prompt": "a", "negative_prompt": []}, "negative_prompt"),
]  # fmt: skip


def test_wrong_fields_are_one_sentence_each(config: ServingConfig, room: DrawingRoom) -> None:
    server = PictureServer(config, room)

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        headers = {"Content-Type": "application/json"}
        return [await client.post(GENERATIONS, content=json.dumps(body), headers=headers) for body, _ in WRONG]

    for (body, message), response in zip(WRONG, during(server, work), strict=True):
        assert response.status_code == 400, (body, response.text)
        assert message in response.json()["error"]["message"], (body, response.text)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400), (b"[1]", "application/json", 400), (b"\xff", "application/json", 400),
        (b"prompt=a", "application/x-www-form-urlencoded", 415), (b"", "", 415),
        (b"{" * 100_000, "application/json", 400), (b'{"prompt": NaN}', "application/json", 400),
        (b"x" * 2000, "application/json", 413), (b"no form", "multipart/form-data; boundary=x", 400),
        (b"--x\r\n\r\na\r\n--x--", "multipart/form-data; boundary=x", 400), (b"x", "multipart/form-data", 400),
    ],
)  # fmt: skip
def test_odd_bodies_are_refused(
    config: ServingConfig, room: DrawingRoom, content: bytes, kind: str, status: int
) -> None:
    limits = ServingLimits(max_body_bytes=1000 if status == 413 else 10**6)
    response = post(PictureServer(config.replace(limits=limits), room), content=content, headers={"Content-Type": kind})
    assert response.status_code == status
    assert response.json()["error"]["message"]


@pytest.mark.parametrize("image", [b"", b"no picture", png_of(np.zeros((2, 2, 3), np.uint8))[:30]])
def test_a_picture_that_cannot_be_read_is_one_sentence(config: ServingConfig, room: DrawingRoom, image: bytes) -> None:
    mask = png_of(np.full((8, 8), 255, np.uint8))
    files = {"image": ("i.png", image), "mask": ("m.png", mask)}
    response = post(PictureServer(config, room), path=EDITS, files=files, data={"prompt": "a"})
    assert response.status_code == 400, response.text
    empty = {
        "image": ("i.png", png_of(np.zeros((8, 8, 3), np.uint8))),
        "mask": ("m.png", png_of(np.zeros((8, 8), np.uint8))),
    }
    response = post(PictureServer(config, room), path=EDITS, files=empty, data={"prompt": "a"})
    assert response.status_code == 400
    assert "covers less than" in response.json()["error"]["message"]


@pytest.fixture
def held(room: DrawingRoom) -> Iterator[tuple[DrawingRoom, threading.Event]]:
    """A room that computes nothing until an event is set."""
    go = threading.Event()

    class Held:
        pipe, adapters, schedule = room.pipe, room.adapters, room.schedule

        def compute(self, batch: Any) -> Any:
            assert go.wait(timeout=300)
            return room.compute(batch)

    yield Held(), go  # type: ignore[misc]
    go.set()


def test_a_full_queue_answers_429_and_accepted_requests_are_served(
    config: ServingConfig, held: tuple[DrawingRoom, threading.Event]
) -> None:
    room, go = held
    server = PictureServer(config.replace(limits=ServingLimits(max_waiting=3, max_batch=1, batch_wait_s=0)), room)

    async def work(client: httpx.AsyncClient) -> tuple[list[httpx.Response], list[httpx.Response]]:
        tasks = [asyncio.create_task(client.post(GENERATIONS, json={"prompt": "a", "seed": 0}))]
        while not server.batcher.running:
            await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(client.post(GENERATIONS, json={"prompt": "a", "seed": i})) for i in range(1, 4)]
        while len(server.batcher.waiting) < 3:
            await asyncio.sleep(0.01)
        refused = [await client.post(GENERATIONS, json={"prompt": "a", "n": n}) for n in (1, 3)]
        go.set()
        return list(await asyncio.gather(*tasks)), refused

    served, refused = during(server, work)
    assert [response.status_code for response in served] == [200] * 4
    for response in refused:
        assert response.status_code == 429
        assert int(response.headers["Retry-After"]) >= 1


def test_keys_are_enforced_and_no_page_of_another_origin_is_served(config: ServingConfig, room: DrawingRoom) -> None:
    body = {"prompt": "a"}
    keyed = config.replace(key_digests=(key_digest(KEY),))
    for headers, status in (
        ({}, 401), ({"Authorization": KEY}, 401), ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {KEY}"}, 200), ({"Authorization": f"Bearer {KEY}", "Host": "example.org"}, 200),
        ({"Authorization": f"Bearer {KEY}", "Origin": "https://evil.example"}, 403),
    ):  # fmt: skip
        assert post(PictureServer(keyed, room), body, headers=headers).status_code == status
    for headers, status in (
        ({"Host": "evil.example"}, 403), ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8000"}, 200), ({"Host": "[::1]:8000"}, 200),
        ({"Host": "LocalHost:8000"}, 200), ({"Host": "LOCALHOST", "Origin": "http://localhost"}, 200),
    ):  # fmt: skip
        assert post(PictureServer(config, room), body, headers=headers).status_code == status


def test_health_metrics_models_and_the_page(config: ServingConfig, room: DrawingRoom) -> None:
    server = PictureServer(config, room)

    async def work(client: httpx.AsyncClient) -> list[httpx.Response]:
        await client.post(GENERATIONS, json={"prompt": "a very secret prompt", "n": 2})
        await client.post(GENERATIONS, json={})
        return [await client.get(path) for path in ("/health", "/metrics", "/v1/models", "/", "/page.js", "/page.css")]

    health, metrics, models, page, script, style = during(server, work)
    assert health.json() == {"status": "ok", "waiting": 0, "running": 0}
    assert 'infinity_requests_total{path="/v1/images/generations",status="200"} 1.0' in metrics.text
    assert 'infinity_requests_total{path="/v1/images/generations",status="400"} 1.0' in metrics.text
    assert "infinity_pictures_total 2.0" in metrics.text
    assert "secret" not in metrics.text
    assert models.json()["loras"] == ["wild"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" in page.text
    assert (script.status_code, style.status_code) == (200, 200)


def test_a_request_that_is_cancelled_is_no_failure_of_the_server(config: ServingConfig, room: DrawingRoom) -> None:
    """Ray cancels a request whose client went away."""
    limits = ServingLimits(batch_wait_s=3600)
    server = PictureServer(config.replace(limits=limits), room)

    async def work(client: httpx.AsyncClient) -> str:
        asked = asyncio.create_task(client.post(GENERATIONS, json={"prompt": "a"}))
        while not server.batcher.waiting:
            assert not asked.done(), asked.result().text
            await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert not server.batcher.waiting
        return (await client.get("/metrics")).text

    found = during(server, work)
    assert 'infinity_requests_total{path="/v1/images/generations",status="499"} 1.0' in found
    assert 'status="500"' not in found


def test_nothing_of_a_prompt_is_logged(
    config: ServingConfig, room: DrawingRoom, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    class Broken:
        pipe, adapters, schedule = room.pipe, room.adapters, room.schedule

        def compute(self, batch: Any) -> Any:
            raise RuntimeError(f"cannot draw {batch[0].work.prompt}")

    with caplog.at_level(logging.DEBUG):
        for some in (room, Broken()):
            post(PictureServer(config, some), {"prompt": "a very secret prompt"})  # type: ignore[arg-type]
        response = post(PictureServer(config, Broken()), {"prompt": "a very secret prompt"})  # type: ignore[arg-type]
    assert response.status_code == 500
    out, err = capfd.readouterr()
    assert "secret" not in caplog.text + out + err + response.text


def test_keys_are_read_from_lines() -> None:
    assert read_keys(f"# ours\n\n{KEY}\n", where="keys") == [key_digest(KEY)]
    for text in ("", "# only\n", "short\n"):
        with pytest.raises(ValueError, match="keys: expected one key of at least 16 characters"):
            read_keys(text, where="keys")


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_comment_is_never_a_key_and_the_first_key_is_one_whatever_the_editor_put_before(mark: str) -> None:
    comments = "# keys of the demonstration\n \t# and another long comment\r\n"
    assert read_keys(f"{mark}{comments}{KEY}\r\n", where="keys") == [key_digest(KEY)]
    assert read_keys(f"{mark}{KEY}\n{comments}", where="keys") == [key_digest(KEY)]
    with pytest.raises(ValueError, match=r"keys: .* per line, found none$"):
        read_keys(f"{mark}{comments}", where="keys")
    with pytest.raises(ValueError, match=r"keys: .* per line, found 5 in line 3$"):
        read_keys(f"{mark}{comments}short\n{KEY}", where="keys")
