"""OpenAI's own Python client against the server, over a real connection: its calls, its events and its exceptions."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infinity.generation.infinity_pipeline import InfinityPipeline
from infinity.serving.app import PictureServer
from infinity.serving.settings import ServingConfig, ServingLimits, key_digest
from tests.fixtures.data.small_world import write_model
from tests.fixtures.servers.served_app import served

openai = pytest.importorskip("openai", reason="OpenAI's client is not installed: pip install openai")
KEY = "a key for the test"
SETTINGS = {"seed": 7, "guidance": 2.0, "temperature": 0.7}
BY_PYTHON: dict[str, Any] = {"seed": 7, "guidance_scale": 2.0, "temperature": 0.7}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pipe(model: str) -> InfinityPipeline:
    return InfinityPipeline.from_pretrained(model, device="cpu")


@pytest.fixture(scope="module")
def address(model: str) -> Iterator[str]:
    config = ServingConfig(model=model, device="cpu", key_digests=(key_digest(KEY),))
    with served(PictureServer(config).app) as address:
        yield f"{address}/v1"


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Any]:
    with openai.OpenAI(api_key=KEY, base_url=address, timeout=300, max_retries=0) as client:
        yield client


def pixels(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text.removeprefix("data:image/png;base64,")))))


def png_of(array: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    file.seek(0)
    return file


@pytest.mark.parametrize("form", ["b64_json", "url"])
def test_its_pictures_are_those_of_python(client: Any, pipe: InfinityPipeline, form: str) -> None:
    found = client.images.generate(
        prompt="a red cube", n=3, size="512x1024", response_format=form, extra_body=SETTINGS, model="any"
    )
    expected = pipe("a red cube", num_images_per_prompt=3, width=512, height=1024, **BY_PYTHON)
    assert np.array_equal(np.stack([pixels(getattr(each, form)) for each in found.data]), expected.pixels())


def test_its_stream_ends_with_the_pictures_of_python(client: Any, pipe: InfinityPipeline) -> None:
    events = list(client.images.generate(prompt="a", stream=True, partial_images=2, extra_body=SETTINGS))
    assert [event.type for event in events] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert [event.partial_image_index for event in events[:-1]] == [0, 1]
    assert {event.size for event in events} == {"24x24"}
    assert np.array_equal(pixels(events[-1].b64_json)[None], pipe("a", **BY_PYTHON).pixels())


@pytest.mark.parametrize("streamed", [False, True])
def test_its_edits_are_those_of_python(client: Any, pipe: InfinityPipeline, tmp_path: Path, streamed: bool) -> None:
    drawn = pipe("a red cube", seed=3)
    (path,) = drawn.save(tmp_path)
    mask = np.zeros((24, 24), dtype=bool)
    mask[:12, 4:20] = True
    transparent = np.full((24, 24, 4), 255, dtype=np.uint8)
    transparent[mask] = 0
    found = client.images.edit(
        image=("i.png", path.read_bytes()), mask=("m.png", png_of(transparent)), prompt="a blue ball",
        extra_body=SETTINGS, **({"stream": True} if streamed else {}),
    )  # fmt: skip
    text = list(found)[-1].b64_json if streamed else found.data[0].b64_json
    assert np.array_equal(pixels(text)[None], pipe.edit(drawn, mask, "a blue ball", **BY_PYTHON).pixels())


def test_every_argument_that_it_documents_is_taken_or_refused_by_name(client: Any, pipe: InfinityPipeline) -> None:
    image, clear = png_of(np.zeros((24, 24, 3), np.uint8)).getvalue(), np.full((24, 24, 4), 255, np.uint8)
    clear[:12, :, 3] = 0
    both: dict[str, Any] = {
        "model": "gpt-image-1", "n": 2, "user": "me", "background": "opaque", "output_compression": 100,
        "output_format": "png", "quality": "high", "response_format": "b64_json", "size": "1024x1024",
    }  # fmt: skip
    drawn = client.images.generate(prompt="a", moderation="low", style="vivid", extra_body=SETTINGS, **both)
    expected = pipe("a", num_images_per_prompt=2, **BY_PYTHON).pixels()
    assert np.array_equal(np.stack([pixels(each.b64_json) for each in drawn.data]), expected)
    edit = {"image": [("i.png", image)], "mask": ("m.png", png_of(clear)), "input_fidelity": "high"}
    assert len(client.images.edit(prompt="a", **edit, **both).data) == 2
    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (client.images.generate, {"background": "transparent"}, "background"),
        (client.images.generate, {"output_compression": 40}, "output_compression"),
        (client.images.generate, {"extra_body": {"loras": {"../x": 1}}}, "loras"),
        (client.images.edit, edit | {"image": [("i.png", image), ("j.png", image)]}, "image"),
        (client.images.edit, edit | {"size": "1024x1536"}, "size"),
        (client.images.edit, edit | {"extra_body": {"loras": {"../x": 1}}}, "loras"),
        (client.images.edit, {"image": ("i.png", image)}, "mask"),
    ]
    for call, arguments, field in wrong:
        with pytest.raises(openai.BadRequestError) as found:
            call(prompt="a", **arguments)
        assert found.value.param == field, found.value.message


def plain(given: Any) -> dict[str, Any]:
    """What came, without what the client makes of it."""
    found: dict[str, Any] = given.to_dict(mode="json")
    return found


@pytest.mark.parametrize("more", [{}, {"response_format": "url"}])
def test_every_field_that_it_declares_as_required_is_there(client: Any, more: dict[str, Any]) -> None:
    image, clear = png_of(np.zeros((24, 24, 3), np.uint8)), np.zeros((24, 24, 4), np.uint8)
    edit = {"image": ("i.png", image), "mask": ("m.png", png_of(clear))}
    streams = (
        client.images.generate(prompt="a red cube", stream=True, partial_images=1, extra_body=SETTINGS | more),
        client.images.edit(prompt="a red cube", stream=True, partial_images=1, extra_body=SETTINGS | more, **edit),
    )
    for events in map(list, streams):
        assert len(events) == 2
        for event in events:
            type(event).model_validate(plain(event))  # strict clients refuse an answer that lacks one
    usage = events[-1].usage
    assert (usage.input_tokens_details.text_tokens, usage.output_tokens) == (4, 1 + 4 + 9 + 36)
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens == 4 + 50 + 50
    whole = client.images.generate(prompt="a", size="512x1024", extra_body=SETTINGS | more)
    type(whole).model_validate(plain(whole))
    height, width, _ = pixels(getattr(whole.data[0], more.get("response_format", "b64_json"))).shape
    assert (whole.background, whole.output_format, whole.size) == ("opaque", "png", f"{width}x{height}")


def test_every_argument_of_its_types_is_taken_or_refused_by_its_name(client: Any) -> None:
    """Also those that were added since: an argument without effect in silence would be a promise."""
    from openai.types import image_edit_params, image_generate_params

    simple: dict[str, Any] = {"n": 1, "stream": False, "output_compression": 100, "partial_images": 0}
    texts = {"size": "auto", "response_format": "b64_json", "output_format": "png", "style": "vivid"}
    known = simple | texts | {"input_fidelity": "low", "markup": ("m.png", b"-")}
    form = {"image": png_of(np.zeros((24, 24, 3), np.uint8)).getvalue(), "mask": None}
    clear = png_of(np.zeros((24, 24, 4), np.uint8)).getvalue()
    for call, path, params in (
        (client.images.generate, "generations", image_generate_params.ImageGenerateParamsBase),
        (client.images.edit, "edits", image_edit_params.ImageEditParamsBase),
    ):
        files = {"image": ("i.png", form["image"]), "mask": ("m.png", clear)} if path == "edits" else {}
        refused = {}
        for name in set(params.__annotations__) - {"prompt", "image", "mask"}:
            try:
                call(prompt="a", **files, **{name: known.get(name, "auto")})
            except openai.BadRequestError as error:
                refused[name] = error.param
        assert refused == {name: name for name in refused}
        assert not {"model", "user", "quality", "background", "size", "n", "output_format"} & set(refused)


def test_its_list_of_models_names_the_model(client: Any, pipe: InfinityPipeline) -> None:
    (one,) = client.models.list()
    assert one.id == pipe.pipeline.digest
    assert client.models.retrieve(one.id) == type(one).model_validate(plain(one))
    with pytest.raises(openai.NotFoundError) as found:
        client.models.retrieve("gpt-image-1")
    assert found.value.param == "model"


@pytest.mark.parametrize(
    ("call", "field"),
    [
        ({"prompt": "a", "n": 10**9}, "n"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"prompt": "a", "size": "0x0"}, "size"),
        ({"prompt": "a", "output_format": "webp"}, "output_format"),
    ],
)
def test_a_wrong_field_is_its_bad_request_that_names_the_field(client: Any, call: dict[str, Any], field: str) -> None:
    with pytest.raises(openai.BadRequestError) as found:
        client.images.generate(**call)
    assert found.value.param == field
    assert field in found.value.message


def test_a_wrong_key_is_its_authentication_error(address: str) -> None:
    with openai.OpenAI(api_key="another key of the test", base_url=address, max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            client.images.generate(prompt="a")
        with pytest.raises(openai.AuthenticationError):
            client.models.list()


def test_an_answer_that_the_server_is_busy_is_its_rate_limit_error(model: str) -> None:
    config = ServingConfig(model=model, device="cpu", limits=ServingLimits(max_waiting=1, max_batch=1))
    server, go = PictureServer(config), threading.Event()
    draw = server.room.compute
    server.batcher._compute = lambda batch: go.wait() and draw(batch)  # type: ignore[return-value]
    with (
        served(server.app) as address,
        openai.OpenAI(api_key="none", base_url=f"{address}/v1", max_retries=0, timeout=300) as client,
        ThreadPoolExecutor(2) as others,
    ):
        try:
            drawn = others.submit(client.images.generate, prompt="a", n=1)
            while not server.batcher.running:
                time.sleep(0.01)
            waits = others.submit(client.images.generate, prompt="a", n=1)
            while not server.batcher.waiting:
                time.sleep(0.01)
            with pytest.raises(openai.RateLimitError) as found:
                client.images.generate(prompt="a", n=1)
            assert int(found.value.response.headers["retry-after"]) >= 1
        finally:
            go.set()
        assert len(drawn.result().data) == len(waits.result().data) == 1


def test_more_pictures_than_may_ever_wait_are_its_bad_request(model: str) -> None:
    config = ServingConfig(model=model, device="cpu", limits=ServingLimits(max_waiting=1))
    with (
        served(PictureServer(config).app) as address,
        openai.OpenAI(api_key="none", base_url=f"{address}/v1", max_retries=0, timeout=300) as client,
        pytest.raises(openai.BadRequestError, match="n: expected 1"),
    ):
        client.images.generate(prompt="a", n=2)
