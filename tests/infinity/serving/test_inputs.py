"""Every field of a request: what is wrong is refused by a sentence that names the field; nothing is overlooked."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from infinity.serving.inputs import PictureRequest, picture_request
from infinity.serving.refusal import RefusedError
from infinity.serving.settings import ServingConfig

CONFIG = ServingConfig(model="nowhere", adapters={"wild": "place", "mild": "place"})
ANY: tuple[Any, ...] = (
    True, False, 0, 1, -1, 3, 0.5, 1.0, -0.0, 2**63, 2**64 - 1, -(2**63), 1e308, 5e-324, "", "1", "NaN", "true", "null",
    "../../etc/passwd", "\u202egnp.", "x" * 100_000, [], [1], ["a"], {}, {"a": 1}, [[[]]], b"bytes",
)  # fmt: skip
OPEN = ("prompt", "negative_prompt", "model", "user")
FIELDS: dict[str, tuple[Any, ...]] = {
    "prompt": ("", "1", "NaN", "true", "null", "../../etc/passwd", "\u202egnp."),
    "n": (1, 3), "seed": (0, 1, -1, 3, -(2**63)), "size": (), "aspect_ratio": (1, 3, 0.5, 1.0),
    "guidance": (0, 1, -1, 3, 0.5, 1.0, -0.0, 5e-324, [1]), "temperature": (1, 3, 0.5, 1.0, [1]),
    "top_p": (1, 0.5, 1.0, 5e-324),
    "loras": ({},), "response_format": (), "output_format": (), "output_compression": (), "stream": (True, False),
    "partial_images": (0, 1, 3), "quality": (), "style": (), "background": (), "moderation": (), "input_fidelity": (),
    "image": (), "mask": (), "keep_scales": (), "unknown": (),
}  # fmt: skip
FIELDS |= dict.fromkeys(OPEN, FIELDS["prompt"])


def asked(edits: bool = False, **fields: Any) -> PictureRequest:
    return picture_request({"prompt": "a"} | fields, CONFIG, edits=edits)


def refusal(edits: bool = False, **fields: Any) -> RefusedError:
    with pytest.raises(RefusedError) as found:
        asked(edits, **fields)
    return found.value


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_of_any_type_is_taken_or_refused_by_name(field: str) -> None:
    for value in ANY:
        if any(type(value) is type(fine) and value == fine for fine in FIELDS[field]):
            asked(**{field: value})
            continue
        error = refusal(**{field: value})
        assert error.status == 400
        assert field in error.message
        assert error.field == field
        assert len(error.message) < 500
        assert "passwd" not in error.message
        assert "SamplingConfig" not in error.message


def test_fields_of_other_requests_and_misspelt_ones_are_named() -> None:
    assert refusal(sed=7).message.startswith("unknown field 'sed'; expected some of prompt")
    assert refusal(mask=b"x").message == "mask: expected at /v1/images/edits alone"
    assert refusal(keep_scales=1).message == "keep_scales: expected at /v1/images/edits alone"
    hostile = refusal(**{"\u202e<b>" + "x" * 10_000: 1})
    assert "\u202e" not in hostile.message
    assert len(hostile.message) < 500


def test_what_openai_documents_is_taken_where_it_means_nothing_else() -> None:
    plain = asked(seed=1)
    for fields in (
        {"model": "gpt-image-1"}, {"user": "me"}, {"quality": "hd"}, {"style": "vivid"}, {"moderation": "low"},
        {"background": "opaque"}, {"output_format": "png"}, {"output_compression": 100}, {"size": "auto"},
        {"response_format": "b64_json"}, {"partial_images": 3}, {"input_fidelity": "high"},
    ):  # fmt: skip
        assert asked(seed=1, **fields) == (plain if "partial_images" not in fields else asked(seed=1, partial_images=3))
    for fields, message in (
        ({"background": "transparent"}, "background: expected one of auto, opaque"),
        ({"output_format": "jpeg"}, "output_format: expected one of png"),
        ({"output_compression": 50}, "output_compression: expected 100"),
    ):
        assert refusal(**fields).message == message


def test_numbers_at_their_limits() -> None:
    assert asked(n=10, seed=2**63 - 11).seeds == tuple(range(2**63 - 11, 2**63 - 1))
    for fields in ({"n": 11}, {"seed": 2**63 - 10}, {"seed": -(2**63) - 1}, {"seed": 7.0}, {"partial_images": 101}):
        assert "expected a whole number from" in refusal(**fields).message
    assert asked(guidance=1_000_000, temperature=1e-6, top_p=1).sampling.guidance == 1_000_000
    for fields in ({"guidance": 1_000_001}, {"guidance": -1e7}, {"temperature": 9e-7}, {"temperature": 0}):
        assert "expected a number from" in refusal(**fields).message
    for top_p in (0, -1, 1.0001):
        assert refusal(top_p=top_p).message == "top_p: expected a number above 0 up to 1"


@pytest.mark.parametrize(
    "size", ["0x5", "5x0", "1024", "1024x", "x", "1024X1024", " 1024x1024", "-1x5", "1.5x2", "1024x1024\n", "٣x٣"]
)
def test_a_size_is_two_numbers(size: str) -> None:
    assert refusal(size=size).message == "size: expected width x height, such as 1024x1024, or auto"


def test_shapes_follow_from_one_field_alone() -> None:
    assert asked(size="512x1024").aspect_ratio == asked(aspect_ratio=2).aspect_ratio == 2.0
    assert asked(size="auto", aspect_ratio=2).aspect_ratio == 2.0
    assert refusal(size="512x1024", aspect_ratio=2).field == "aspect_ratio"
    assert refusal(size="99999x1").field == "size"


def test_adapters_are_chosen_by_name_alone() -> None:
    assert asked(loras={"wild": 1, "mild": -0.5}).adapters == (("mild", -0.5), ("wild", 1.0))
    for name in ("../wild", "/etc/passwd", "s3://bucket/x", "", "wild\0", "WILD"):
        error = refusal(loras={name: 1.0})
        assert error.message == "loras: this server has wild, mild"
    for scale in (True, None, "1", [1], 10.5, -11, 1e308):
        assert refusal(loras={"wild": scale}).message == "loras: expected scales from -10 to 10"


def test_an_edit_has_a_picture_and_at_most_one_of_mask_and_scales() -> None:
    both = {"image": b"i", "mask": b"m"}
    assert asked(True, **both).mask == b"m"
    assert asked(True, image=b"i", keep_scales=2).keep_scales == 2
    assert asked(True, image=b"i").mask is None
    assert refusal(True).field == refusal(True, mask=b"m").field == "image"
    assert refusal(True, **both, keep_scales=2).field == "keep_scales"
    for name, wrong in itertools.product(both, ("data:image/png;base64,AAAA", "https://example.org/a.png", 1, [], {})):
        assert (
            refusal(True, **(both | {name: wrong})).message
            == f"{name}: expected a file in a form (multipart/form-data)"
        )
