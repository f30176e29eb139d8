"""What a GPU of 80 GB would meet, counted on a phantom card at the published layouts with one and two blocks."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from infinity.generation.memory import picture_bytes
from infinity.presets import transformer_preset
from infinity.scales import published_schedule
from infinity.transformer import Transformer
from tests.fixtures.limits import AGES_S
from tests.phantom import card

NAMES = {"2B": "2B-released", "8B": "8B-released"}
ALLOWED = 0.9 * 80e9
SCHEDULE = published_schedule(1.0, "1024")

SWITCHES = ("lora", "qlora", "shard", "offload", "windows", "dense", "all-kept", "first-scales", "plain-loss")
"""Switches of a training; each is tried at both layouts with two blocks."""

BY_DEFAULT = (
    *(
        "draw:2B:1",
        "draw:2B:2",
        "draw-trailing:2B:2",
        "draw-less:2B:1",
        "sheet:8B:1",
        "tokenize:2B:1",
        "train:2B:1",
        "train:2B:2",
    ),
    *("train-shard:2B:1", "train-offload:2B:1", "train-copies:2B:1"),
    *("train-resting:2B:1", "train-resting:2B:2", "save-meanwhile:2B:1"),
    *("compiled-draw:2B:1", "compiled-train:2B:1", "compiled-decode:2B:1"),
    *("draw-captured:2B:1", "draw-offloaded:2B:1", "draw-offloaded:2B:2"),
    *("encode-4:2B:1", "decode-4:2B:1", "save:2B:1"),
)
SWEEP = (
    *(
        "draw:8B:1",
        "draw:8B:2",
        "draw-odd:8B:1",
        "draw-less:8B:1",
        "draw-trailing:8B:2",
        "draw-32:2B:2",
        "draw-32:8B:2",
    ),
    *("sheet:2B:2", "tokenize:8B:1"),
    *("compiled-draw:8B:1", "compiled-train:8B:1", "compiled-decode:8B:1", "encode-4:8B:1", "decode-4:8B:1"),
    *("train:8B:1", "train:8B:2", "train-shard:8B:1", "train-offload:8B:1"),
    *("train-each:2B:1", "train-once:2B:1", "train-kept:2B:1", "train-kept:2B:2", "train-shard:2B:2"),
    *(f"train-{switch}:{layout}:2" for switch in SWITCHES for layout in NAMES),
)
TRAININGS = ("train", "train-copies", "train-resting", *(f"train-{switch}" for switch in SWITCHES))


@pytest.fixture(scope="module")
def figures(request: pytest.FixtureRequest) -> dict[str, Any]:
    if torch.version.cuda is not None:
        pytest.skip("the phantom card needs a CPU build of torch")
    if card.compiler() is None:
        pytest.skip("the phantom card needs a C++ compiler, found none")
    wanted = [*BY_DEFAULT, *(SWEEP if request.config.getoption("--exhaustive") else ())]
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.phantom.scenarios", *wanted],
        capture_output=True,
        text=True,
        timeout=3 * AGES_S,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return result


def _each(figures: dict[str, Any], *names: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return key, layout and figures of the scenarios with these names."""
    keys = [key for key in figures if key.split(":")[0] in names]
    assert keys
    return [(key, key.split(":")[1], figures[key]) for key in keys]


def _at_full_depth(figures: dict[str, Any], name: str, layout: str, what: str) -> float:
    one, two = figures[f"{name}:{layout}:1"][what], figures[f"{name}:{layout}:2"][what]
    return float(one + (transformer_preset(NAMES[layout]).depth - 1) * (two - one))


def _layouts(figures: dict[str, Any]) -> list[str]:
    return sorted({key.split(":")[1] for key in figures if f"{key.rsplit(':', 1)[0]}:2" in figures})


def test_no_program_waits_for_the_card_inside_the_loop_over_scales(figures: dict[str, Any]) -> None:
    for key, _, found in _each(figures, "draw", "draw-odd", "draw-trailing", "draw-less", "draw-32", "sheet"):
        assert found["waits_in_loop"] == 0, key


def test_captured_scales_are_all_that_runs_in_the_loop(figures: dict[str, Any]) -> None:
    """The stand-in of a graph starts no kernel, so that what is counted here would run beside the graphs."""
    found = figures["draw-captured:2B:1"]
    assert found == {"replays": SCHEDULE.num_scales, "waits_in_loop": 0, "launches_in_loop": 0}


def test_matrix_products_are_bfloat16(figures: dict[str, Any]) -> None:
    for key, _, found in _each(figures, "draw", "draw-odd", "draw-trailing", "draw-less", *TRAININGS):
        products = found["products"]
        assert products["float32"] <= 0.01 * sum(products.values()), key


def test_a_block_starts_at_most_46_kernels_per_scale(figures: dict[str, Any]) -> None:
    for layout in _layouts(figures):
        if f"draw:{layout}:2" in figures:
            launches = figures[f"draw:{layout}:2"]["launches"] - figures[f"draw:{layout}:1"]["launches"]
            assert launches / SCHEDULE.num_scales <= 46, layout


def test_weights_in_bfloat16_are_not_cast_at_every_scale(figures: dict[str, Any]) -> None:
    casts = figures["draw:2B:2"]["casts"] - figures["draw:2B:1"]["casts"]
    assert casts / SCHEDULE.num_scales <= 11


def test_a_picture_fits_beside_its_weights(figures: dict[str, Any]) -> None:
    """Of the 2B layout in 12 GB, with 2.4 GB of text encoder in bfloat16 that is not on this card."""
    assert _at_full_depth(figures, "draw", "2B", "peak") <= 12e9
    if "draw:8B:2" in figures:
        assert _at_full_depth(figures, "draw", "8B", "peak") <= 0.5 * 80e9


def test_offloaded_blocks_take_no_memory_of_the_card_between_layers(figures: dict[str, Any]) -> None:
    """Each block of 2B keeps 0.1 MB there: its norms and the offset of its modulation."""
    one, two = (figures[f"draw-offloaded:2B:{depth}"] for depth in (1, 2))
    assert two["resting"] - one["resting"] < 1e6
    assert one["peak"] < figures["draw:2B:1"]["peak"]


def test_what_a_picture_is_said_to_take_is_what_it_takes(figures: dict[str, Any]) -> None:
    """One block's part of the keys and values, by which pictures per pass are chosen."""
    config = transformer_preset("2B-released")
    one, two = (
        picture_bytes(config.replace(depth=depth), SCHEDULE, doubled=True, cache_dtype=torch.bfloat16)
        for depth in (1, 2)
    )
    assert two - one == 2 * 2 * SCHEDULE.num_tokens * config.width * 2
    for key, _, found in _each(figures, "draw"):
        assert found["peak"] - found["resting"] <= 4.5e9, f"{key}: decoding one picture"


def test_a_sheet_fits_beside_a_training_and_many_pictures_fit_too(figures: dict[str, Any]) -> None:
    for key, _, found in _each(figures, "sheet"):
        assert found["peak"] <= ALLOWED, key
        assert found["scales"] >= SCHEDULE.num_scales
    for key, _, found in _each(figures, "draw-32") if "draw-32:2B:2" in figures else []:
        assert found["peak"] <= ALLOWED, key


def test_late_scales_without_guidance_do_half_the_products(figures: dict[str, Any]) -> None:
    """The last two of thirteen scales have 6,400 of 10,521 tokens; the second block alone is compared."""
    span = SCHEDULE.spans[-2]
    late = 1 - span.start / SCHEDULE.num_tokens
    plain = figures["draw:2B:2"]["products"]["bfloat16"] - figures["draw:2B:1"]["products"]["bfloat16"]
    saved = figures["draw:2B:2"]["products"]["bfloat16"] - figures["draw-trailing:2B:2"]["products"]["bfloat16"]
    assert saved / 2 == pytest.approx(late / 2 * plain, rel=0.02)


def test_encoding_and_decoding_take_what_they_are_said_to_take(figures: dict[str, Any]) -> None:
    """Seven pictures of 1024 x 1024 px go in two passes, of which the larger has four."""
    for key, _, found in _each(figures, "tokenize"):
        for what in ("encode", "reconstruct"):
            taken = found[what]["peak"] - found[what]["resting"]
            assert 0.4 * 4 * found["bytes_each"] <= taken <= 1.1 * 4 * found["bytes_each"], (key, what)
            assert found[what]["peak"] <= ALLOWED


def test_four_pictures_are_encoded_or_decoded_in_one_pass(figures: dict[str, Any]) -> None:
    """17 GB are the most that encoder and decoder take, whatever the card has."""
    for key, _, found in _each(figures, "encode-4", "decode-4"):
        assert found["peak"] <= 17e9, key
        assert sum(found["convolutions"].values()) > 0.8 * sum(found["products"].values()), key


def test_a_save_copies_weights_and_moments_and_nothing_else(figures: dict[str, Any]) -> None:
    """Three float32 numbers per weight, and one step count per weight tensor, which lies on the card too."""
    config = transformer_preset(NAMES["2B"]).replace(depth=1)
    with torch.device("meta"):
        weights = [weight.numel() for weight in Transformer(config).parameters()]
    found = figures["save:2B:1"]
    assert 12 * sum(weights) <= found["copied"] <= 12 * sum(weights) + 4 * len(weights)


def test_a_training_step_of_the_1024_class_fits(figures: dict[str, Any]) -> None:
    """On one card the 2B layout with averages and moments; on each of eight cards either layout, also offloaded."""
    assert _at_full_depth(figures, "train", "2B", "peak") <= ALLOWED
    for name in ("train-shard", "train-offload"):
        for layout in NAMES:
            if f"{name}:{layout}:2" in figures:
                assert _at_full_depth(figures, name, layout, "peak") <= ALLOWED, (name, layout)


def test_weights_are_where_the_switches_put_them(figures: dict[str, Any]) -> None:
    """Sharded among eight cards each holds an eighth; offloaded, almost nothing rests on the card."""
    for key, _, found in _each(figures, *TRAININGS):
        assert found["weights_on"] == (["cpu"] if key.startswith("train-offload") else ["cuda"]), key
    for key, layout, found in _each(figures, "train-shard", "train-offload"):
        whole = figures.get(f"train:{layout}:{key[-1]}")
        if whole is not None:
            least, most = (0.0, 0.02) if key.startswith("train-offload") else (1 / 8, 0.15)
            assert least <= found["resting"] / whole["resting"] <= most, key


def test_the_compiler_fuses_a_block_into_few_kernels(figures: dict[str, Any]) -> None:
    """Six products and two attentions stay; four kernels do all the rest."""
    for key, _, found in _each(figures, "compiled-draw"):
        assert 8 < found["compiled"]["launches"] <= 12, key
        assert found["eager"]["launches"] <= 46, key


def test_a_compiled_decoder_moves_half_of_the_bytes(figures: dict[str, Any]) -> None:
    """Its norms become kernels that keep channels last and write what the next convolution reads."""
    for key, _, found in _each(figures, "compiled-decode"):
        assert 0.3 < found["compiled"]["moved"] / found["eager"]["moved"] <= 0.5, key
        assert found["compiled"]["launches"] <= 0.6 * found["eager"]["launches"], key


def test_a_compiled_training_step_moves_little_more_than_half_of_the_bytes(figures: dict[str, Any]) -> None:
    """The weights of all blocks are 2.0 billion; the update alone moves what it moves without a compiler.

    What compiled blocks keep for the backward pass fits beside everything else.
    """
    for key, layout, found in _each(figures, "compiled-train"):
        left = found["compiled"]["moved"] / found["eager"]["moved"]
        assert 0.35 < left <= 0.46, key
        if layout == "2B":
            whole = _at_full_depth(figures, "train", layout, "moved")
            saved = found["eager"]["moved"] - found["compiled"]["moved"]
            depth = transformer_preset(NAMES[layout]).depth
            assert whole - depth * saved <= 1.3e12
            assert _at_full_depth(figures, "train", layout, "peak") + depth * found["kept"] <= ALLOWED


def test_with_moments_and_averages_on_the_cpu_a_step_fits_a_card_of_40_gb(figures: dict[str, Any]) -> None:
    """Twelve bytes of sixteen per weight are elsewhere; gradients of the step before are the other four."""
    assert _at_full_depth(figures, "train-resting", "2B", "peak") <= 0.9 * 40e9
    saved = _at_full_depth(figures, "train", "2B", "resting") - _at_full_depth(
        figures, "train-resting", "2B", "resting"
    )
    config = transformer_preset(NAMES["2B"])
    with torch.device("meta"):
        weights = sum(weight.numel() for weight in Transformer(config).parameters())
    assert saved == pytest.approx(12 * weights, rel=0.01)


def test_copies_of_weights_that_four_share_are_a_quarter_on_each_card(figures: dict[str, Any]) -> None:
    whole, quarter, eighth = (figures[f"{name}:2B:1"] for name in ("train", "train-copies", "train-shard"))
    assert 1 / 4 <= quarter["resting"] / whole["resting"] <= 0.27
    assert quarter["peak"] - quarter["resting"] == pytest.approx(eighth["peak"] - eighth["resting"], rel=0.02)


def test_the_host_and_the_next_pass_do_not_wait_for_a_save(figures: dict[str, Any]) -> None:
    """The copies wait for what was begun, the update for the copies, and the thread that writes for them too."""
    found = figures["save-meanwhile:2B:1"]
    assert found["to_begin"] == ["copies for training"]
    assert found["in_a_step"] == ["training for copies are made"]
    assert found["to_write"] == ["host for copies are made"]
    assert found["taken"] == 0, "no second copy on the card"
    assert found["on_host"]


def test_whole_gradients_take_four_bytes_per_weight_and_kept_weights_two(figures: dict[str, Any]) -> None:
    if "train-once:2B:1" not in figures:
        pytest.skip("runs with --exhaustive")
    with torch.device("meta"):
        block = sum(
            weight.numel() for weight in Transformer(transformer_preset(NAMES["2B"])).block_modules()[0].parameters()
        )
    once, each = (figures[f"train-{name}:2B:1"] for name in ("once", "each"))
    assert 4 * block <= once["peak"] - each["peak"] <= 8 * block
    kept, shared = (_at_full_depth(figures, f"train-{name}", "2B", "peak") for name in ("kept", "shard"))
    depth = transformer_preset(NAMES["2B"]).depth
    assert depth * block <= kept - shared <= 4 * depth * block
