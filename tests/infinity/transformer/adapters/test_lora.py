"""Adapters as files: what peft writes we read, what we write peft reads, and the base comes back bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from infinity.training.transformer.adapters import AdapterConfig, add_adapters, merged, trained_adapter
from infinity.transformer import Transformer
from infinity.transformer.adapters.lora import Adapter, AdapterError, AdapterStack, LowRank, low_rank_difference
from infinity.transformer.adapters.lora_files import adapter_digest, load_adapter, parse_adapter, save_adapter
from tests.fixtures.models.tiny_transformer import random_transformer

PLACES = ("blocks.0.self_attention.query_key", "blocks.1.feed_forward.contract")


def made(seed: int, *, rank: int = 2, dora: bool = False, places: tuple[str, ...] = PLACES) -> Adapter:
    numbers, layers = torch.Generator().manual_seed(seed), {}
    for place in places:
        weight = random_transformer().get_submodule(place).weight
        out, inner = weight.shape
        magnitude = 1 + torch.rand(out, generator=numbers) if dora else None
        down, up = torch.randn(rank, inner, generator=numbers), torch.randn(out, rank, generator=numbers)
        layers[place] = LowRank(down, up, 0.25, magnitude)
    return Adapter(f"adapter-{seed}", layers, "")


def weights(model: Transformer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("rank", [1, 3])
def test_a_saved_adapter_comes_back_and_changes_the_same_weights(tmp_path: Path, dora: bool, rank: int) -> None:
    adapter = made(1, rank=rank, dora=dora)
    digest = save_adapter(str(tmp_path / "a"), adapter)
    found = load_adapter(str(tmp_path / "a"))
    assert (found.name, found.digest) == ("a", digest)
    assert load_adapter(str(tmp_path / "a" / "adapter_model.safetensors")).name == "a"
    one, other = random_transformer(), random_transformer()
    AdapterStack(one).set([(adapter, 0.7)])
    AdapterStack(other).set([(found, 0.7)])
    assert equal(weights(one), weights(other))


def test_ranks_and_factors_that_differ_between_maps_come_back(tmp_path: Path) -> None:
    one, other = made(1, rank=2, places=PLACES[:1]), made(2, rank=5, places=PLACES[1:])
    changed = {name: LowRank(layer.down, layer.up, 2.0) for name, layer in other.layers.items()}
    save_adapter(str(tmp_path), Adapter("both", {**one.layers, **changed}, ""))
    found = load_adapter(str(tmp_path)).layers
    assert [found[place].scaling for place in PLACES] == pytest.approx([0.25, 2.0])
    assert [found[place].down.shape[0] for place in PLACES] == [2, 5]


@pytest.mark.parametrize("dora", [False, True])
def test_scale_zero_and_unloading_give_the_base_back_bit_for_bit(dora: bool) -> None:
    model = random_transformer()
    before, stack = weights(model), AdapterStack(model)
    for loaded in ([(made(1, dora=dora), 1.0), (made(2), 0.5)], [(made(1, dora=dora), 0.0)], [(made(3), -1.0)], []):
        stack.set(loaded)
        assert equal(weights(model), before) == all(scale == 0.0 for _, scale in loaded)


def test_scales_are_linear_and_stacks_add_up() -> None:
    place, one, two = PLACES[0], made(1), made(2)
    base = random_transformer().get_submodule(place).weight.detach()
    model = random_transformer()
    stack = AdapterStack(model)
    stack.set([(one, 0.5), (two, 1.0)])
    expected = base + 0.5 * one.layers[place].change(base) + two.layers[place].change(base)
    torch.testing.assert_close(model.get_submodule(place).weight, expected, rtol=0, atol=0)


def test_an_adapter_of_another_model_is_named_and_nothing_changes() -> None:
    model = random_transformer()
    before, stack = weights(model), AdapterStack(model)
    wrong = {
        "no linear map blocks.99": Adapter(
            "x", {"blocks.99.expand": LowRank(torch.ones(1, 2), torch.ones(2, 1), 1.0)}, ""
        ),
        "one of another model": Adapter("x", {PLACES[0]: LowRank(torch.ones(1, 3), torch.ones(3, 1), 1.0)}, ""),
    }
    good = made(1).layers[PLACES[0]]
    wrong["NaN"] = Adapter("x", {PLACES[0]: LowRank(good.down * float("nan"), good.up, 1.0)}, "")
    for message, adapter in wrong.items():
        with pytest.raises(AdapterError, match=message):
            stack.set([(made(1), 1.0), (adapter, 1.0)])
        assert equal(weights(model), before)


@pytest.mark.parametrize("dora", [False, True])
def test_peft_loads_our_file_and_computes_the_same(tmp_path: Path, dora: bool) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    adapter = made(1, dora=dora)
    save_adapter(str(tmp_path), adapter)
    ours, theirs = random_transformer(), random_transformer()
    AdapterStack(ours).set([(adapter, 1.0)])
    config = peft.LoraConfig.from_pretrained(str(tmp_path))
    peft.inject_adapter_in_model(config, theirs)
    stored = safetensors.torch.load_file(tmp_path / "adapter_model.safetensors")
    stored = {name.removeprefix("base_model.model."): value for name, value in stored.items()}
    missing = peft.set_peft_model_state_dict(theirs, stored)
    assert not missing.unexpected_keys
    found = merged(theirs)
    for place in PLACES:
        torch.testing.assert_close(
            found.get_submodule(place).weight, ours.get_submodule(place).weight, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize(
    "more", [{}, {"rank_pattern": {"expand": 1}, "alpha_pattern": {"expand": 9}}, {"use_rslora": True}]
)
def test_we_load_what_peft_writes(tmp_path: Path, dora: bool, more: dict[str, Any]) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model = random_transformer()
    base = weights(model)
    lora = peft.LoraConfig(r=3, lora_alpha=4, use_dora=dora, target_modules=["query_key", "expand"], **more)
    wrapped = peft.get_peft_model(model, lora)
    numbers = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, value in wrapped.named_parameters():
            if "lora_B" in name:
                value.copy_(torch.randn(value.shape, generator=numbers))
    wrapped.save_pretrained(tmp_path)
    ours = random_transformer()
    assert equal(weights(ours), base)
    AdapterStack(ours).set([(load_adapter(str(tmp_path)), 1.0)])
    for name, value in wrapped.merge_and_unload().state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dora", [False, True])
def test_the_adapter_of_a_training_changes_what_its_merged_export_changes(dora: bool) -> None:
    pytest.importorskip("peft", reason="peft is not installed")
    model = random_transformer()
    add_adapters(model, AdapterConfig(rank=2, alpha=3.0, dora=dora))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(generator=torch.Generator().manual_seed(len(name)))
    ours = random_transformer()
    AdapterStack(ours).set([(trained_adapter(model, "x"), 1.0)])
    for name, value in merged(model).state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-5)


def test_a_change_of_low_rank_is_found_again_from_two_models() -> None:
    base, adapter = random_transformer(), made(1, rank=2)
    tuned = random_transformer()
    AdapterStack(tuned).set([(adapter, 1.0)])
    place = PLACES[0]
    one, other = (model.get_submodule(place).weight.detach() for model in (base, tuned))
    found = low_rank_difference(one, other, rank=2)
    torch.testing.assert_close(found.change(one), other - one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "expected an adapter of the type LORA"),
        ({"bias": "all"}, "expected bias 'none'"),
        ({"modules_to_save": ["head"]}, "modules_to_save"),
        ({"r": 0}, "positive number r"),
        ({"lora_alpha": "x"}, "positive number lora_alpha"),
        ({"alpha_pattern": {"(": 1}}, "not a regular expression"),
    ],
)
def test_kinds_that_are_not_ours_are_one_sentence(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    save_adapter(str(tmp_path), made(1))
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    with pytest.raises(AdapterError, match=message):
        load_adapter(str(tmp_path))


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(.*)*x", "(a|a)?b?c?", ".*.*.*x", "(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)(a|a)", "x" * 300],
)
def test_a_pattern_that_may_never_end_is_refused(tmp_path: Path, pattern: str) -> None:
    save_adapter(str(tmp_path), made(1))
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "alpha_pattern": {pattern: 1}}))
    with pytest.raises(AdapterError, match="may never end; write the names"):
        load_adapter(str(tmp_path))


@pytest.mark.parametrize("pattern", [r"blocks\.[01]\..*(expand|query_key|contract)", ".*", "contract|query_key"])
def test_a_pattern_of_names_is_followed(tmp_path: Path, pattern: str) -> None:
    save_adapter(str(tmp_path), made(1, rank=2))
    config = tmp_path / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "alpha_pattern": {pattern: 12}}))
    assert {layer.scaling for layer in load_adapter(str(tmp_path)).layers.values()} == {6.0}


def test_a_name_of_any_length_is_no_name_of_a_linear_map(tmp_path: Path) -> None:
    save_adapter(str(tmp_path), made(1))
    file = tmp_path / "adapter_model.safetensors"
    key = f"{'a' * 400}.lora_A.weight"
    safetensors.torch.save_file({key: torch.ones(1, 1)}, file)
    with pytest.raises(AdapterError, match="expected tensors lora_A"):
        load_adapter(str(tmp_path))


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="found none"):
        load_adapter(str(tmp_path))
    save_adapter(str(tmp_path), made(1))
    file = tmp_path / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(file)
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(AdapterError, match="damaged"):
        load_adapter(str(tmp_path))
    first = next(name for name in tensors if "lora_A" in name)
    for wrong, message in (
        ({name: value for name, value in tensors.items() if name != first}, "expected lora_A and lora_B"),
        ({**tensors, first: tensors[first][:1]}, "are no LoRA"),
        ({**tensors, "base_model.model.start": torch.ones(2)}, "found 'base_model.model.start'"),
        ({}, "holds no tensor"),
    ):
        safetensors.torch.save_file(wrong, file)
        with pytest.raises(AdapterError, match=message):
            load_adapter(str(tmp_path))


def test_the_scale_stands_behind_a_colon() -> None:
    assert parse_adapter("a/b:0.5") == ("a/b", 0.5)
    assert parse_adapter("a/b:-1") == ("a/b", -1.0)
    assert parse_adapter("s3://bucket/x") == ("s3://bucket/x", 1.0)
    assert parse_adapter("C:name") == ("C:name", 1.0)
    assert [parse_adapter(f"a:{scale}")[1] for scale in (10, -10)] == [10.0, -10.0]
    for text in ("a:11", "a:10.01", "a:-10.01", "a:nan", "a:inf"):
        with pytest.raises(AdapterError, match="expected a scale"):
            parse_adapter(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 7, "rank_pattern": {}}, "configuration says 7"),
        ({"rank_pattern": {".*": 5}}, "configuration says 5"),
        ({"rank_pattern": {"a{99999999999999999999}": 5}}, "not a regular expression"),
        ({"rank_pattern": {"(": 5}}, "no.* regular expression|not a regular expression"),
        ({"alpha_pattern": [1]}, "alpha_pattern to be an object"),
        ({"alpha_pattern": {".*": "4"}}, "positive numbers in alpha_pattern"),
        ({"rank_pattern": {".*": None}}, "positive numbers in rank_pattern"),
        ({"use_dora": True}, "has no lora_magnitude_vector"),
        ({"init_lora_weights": "pissa_niter_16"}, "changes the weights below the adapter"),
        ({"init_lora_weights": "olora"}, "convert it to plain LoRA with peft"),
    ],
)
def test_a_configuration_that_contradicts_the_tensors_is_one_sentence(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    layer = LowRank(torch.ones(2, 8), torch.ones(8, 2), 1.0)
    save_adapter(str(tmp_path), Adapter("a", {"blocks.0.feed_forward.expand": layer}, ""))
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(AdapterError, match=message):
        load_adapter(str(tmp_path))


def odd_file(
    folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any] | None, header: dict[str, str] | None = None
) -> Path:
    folder.mkdir(parents=True)
    copies = {name: value.clone() for name, value in tensors.items()}
    safetensors.torch.save_file(copies, folder / "a.safetensors", header)
    if config is not None:
        (folder / "adapter_config.json").write_text(
            json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 3, **config})
        )
    return folder / "a.safetensors"


A, B, ALPHA = torch.randn(2, 8), torch.randn(8, 2), torch.tensor(3.0)
SPELLINGS = {
    "peft": ("base_model.model.{}.lora_A.weight", "base_model.model.{}.lora_B.weight"),
    "peft, not saved by it": ("base_model.model.{}.lora_A.default.weight", "base_model.model.{}.lora_B.default.weight"),
    "diffusers": ("transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight"),
    "kohya with dots": ("diffusion_model.{}.lora_down.weight", "diffusion_model.{}.lora_up.weight"),
    "bare": ("{}.lora_A.weight", "{}.lora_B.weight"),
    "kohya": ("lora_unet_{_}.lora_down.weight", "lora_unet_{_}.lora_up.weight"),
    "kohya, another prefix": ("lora_transformer_{_}.lora_A.weight", "lora_transformer_{_}.lora_B.weight"),
    "LyCORIS": ("lycoris_{_}.lora_down.weight", "lycoris_{_}.lora_up.weight"),
}


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("alpha", ["in the configuration", "in the file"])
def test_every_spelling_of_the_keys_is_the_same_adapter(tmp_path: Path, name: str, alpha: str) -> None:
    down, up = (key.format(PLACES[0], _=PLACES[0].replace(".", "_")) for key in SPELLINGS[name])
    tensors = {down: A, up: B}
    if alpha == "in the file":
        tensors[down.partition(".lora_")[0] + ".alpha"] = ALPHA
    read = load_adapter(str(odd_file(tmp_path / "x", tensors, {} if alpha == "in the configuration" else None)))
    assert list(read.layers) == [PLACES[0]]
    assert read.digest == adapter_digest({PLACES[0]: LowRank(A, B, 1.5)})
    layer = read.layers[PLACES[0]]
    assert torch.equal(layer.down, A)
    assert torch.equal(layer.up, B)
    assert layer.scaling == 1.5


DIFFUSERS = {"peft_type": "LORA", "r": 2, "lora_alpha": 9, "alpha_pattern": {PLACES[0]: 3}, "use_dora": False}


@pytest.mark.parametrize("part", ["", "transformer."])
@pytest.mark.parametrize("beside", [None, {"lora_alpha": 99}])
def test_a_file_of_diffusers_holds_its_configuration_itself(
    tmp_path: Path, part: str, beside: dict[str, Any] | None
) -> None:
    tensors = {f"transformer.{PLACES[0]}.lora_A.weight": A, f"transformer.{PLACES[0]}.lora_B.weight": B}
    about = json.dumps({part + name: value for name, value in DIFFUSERS.items()}, indent=2)
    file = odd_file(tmp_path / "x", tensors, beside, {"format": "pt", "lora_adapter_metadata": about})
    expected = adapter_digest({PLACES[0]: LowRank(A, B, 1.5)})
    assert load_adapter(str(file)).digest == expected
    file.rename(tmp_path / "x" / "pytorch_lora_weights.safetensors")
    found = load_adapter(str(tmp_path / "x"))
    assert (found.name, found.digest) == ("x", expected)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{", "lora_adapter_metadata"), ("[]", "expected an adapter of the type LORA, found list"),
        ('{"transformer.peft_type": "LOHA"}', "expected an adapter of the type LORA, found LOHA"),
        ('{"peft_type": "LORA", "r": 0, "lora_alpha": 1}', "expected a positive number r, found 0"),
        ('{"peft_type": "LORA", "r": 4, "lora_alpha": 1}', "has the rank 2, its configuration says 4"),
    ],
)  # fmt: skip
def test_a_wrong_configuration_in_a_file_is_one_sentence(tmp_path: Path, about: str, message: str) -> None:
    tensors = {f"{PLACES[0]}.lora_A.weight": A, f"{PLACES[0]}.lora_B.weight": B}
    with pytest.raises(AdapterError, match=message):
        load_adapter(str(odd_file(tmp_path / "x", tensors, None, {"lora_adapter_metadata": about})))


def test_every_linear_map_of_a_deep_model_is_found_by_its_name_with_underscores(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = Transformer(random_transformer().config.replace(depth=12))
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert any(name.startswith("blocks.11.") for name in names)
    tensors = {}
    for name in names:
        flat = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{flat}.lora_down.weight": A, f"{flat}.lora_up.weight": B, f"{flat}.alpha": ALPHA}
    assert sorted(load_adapter(str(odd_file(tmp_path / "x", tensors, None))).layers) == sorted(names)


@pytest.mark.parametrize(
    "name",
    [
        "lora_te_text_model_encoder_layers_0_mlp_fc1", "lora_te1_a", "lora_unet_double_blocks_0_img_attn_proj",
        "lora_unet_blocks_00_feed_forward_expand", "lora_unet_blocks_0_feed_forward", "lora_unet_blocks_x_head",
        "lora_unet_blocks_0_blocks_0_feed_forward_expand", "lora_unet_", "lora_unet_start", "lycoris_conv_in",
        "lora_unet_blocks_-1_feed_forward_expand", "lora_unet_blocks.0.feed_forward.expand",
    ],
)  # fmt: skip
def test_names_with_underscores_of_other_layers_are_one_sentence(tmp_path: Path, name: str) -> None:
    tensors = {f"{name}.lora_down.weight": A, f"{name}.lora_up.weight": B, f"{name}.alpha": ALPHA}
    with pytest.raises(AdapterError, match=r"expected linear maps of this transformer, .* found .* of another model"):
        load_adapter(str(odd_file(tmp_path / "x", tensors, None)))


@pytest.mark.parametrize("key", ["hada_w1_a", "lokr_w1", "lora_mid.weight", "diff", "dora_scale", "oft_blocks"])
def test_other_kinds_of_lycoris_are_one_sentence(tmp_path: Path, key: str) -> None:
    flat = f"lycoris_{PLACES[0].replace('.', '_')}"
    tensors = {f"{flat}.lora_down.weight": A, f"{flat}.lora_up.weight": B, f"{flat}.alpha": ALPHA, f"{flat}.{key}": A}
    with pytest.raises(AdapterError, match=f"expected tensors lora_A, lora_B .* found .*{key}"):
        load_adapter(str(odd_file(tmp_path / "x", tensors, None)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_numbers_of_few_bits_are_taken_as_they_are(tmp_path: Path, dtype: torch.dtype) -> None:
    model = random_transformer()
    out, inner = model.get_submodule(PLACES[0]).weight.shape
    down, up = torch.randn(2, inner).to(dtype), torch.randn(out, 2).to(dtype)
    tensors = {f"{PLACES[0]}.lora_A.weight": down, f"{PLACES[0]}.lora_B.weight": up}
    before = model.get_submodule(PLACES[0]).weight.detach().clone()
    AdapterStack(model).set([(load_adapter(str(odd_file(tmp_path / "x", tensors, {}))), 1.0)])
    expected = before + 1.5 * (up.float() @ down.float())
    torch.testing.assert_close(model.get_submodule(PLACES[0]).weight.detach(), expected)


P = PLACES[0]
PAIR = {f"{P}.lora_A.weight": A, f"{P}.lora_B.weight": B}


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        (PAIR, None, "expected adapter_config.json beside it, or an alpha of every linear map in it, found neither"),
        ({"lora_unet_blocks_0_a.lora_down.weight": A, "lora_unet_blocks_0_a.lora_up.weight": B}, None, "underscores"),
        ({**PAIR, f"base_model.model.{P}.lora_A.weight": A}, {}, "has lora_A twice"),
        ({**PAIR, f"{P}.lora_down.weight": A}, {}, "has lora_A twice; expected one adapter per file"),
        ({**PAIR, f"{P}.lora_magnitude_vector": torch.ones(8)}, {}, "does not set use_dora"),
        ({**PAIR, f"{P}.lora_magnitude_vector": torch.ones(7)}, {"use_dora": True}, r"expected 8 magnitudes, .*\(7,\)"),
        ({**PAIR, f"{P}.lora_magnitude_vector": torch.ones(8, 1)}, {"use_dora": True}, "expected 8 magnitudes"),
        ({**PAIR, f"{P}.alpha": torch.tensor(float("nan"))}, {}, "expected a positive number alpha"),
        ({**PAIR, f"{P}.alpha": torch.ones(2)}, None, "expected a positive number alpha"),
        ({f"{P}.alpha": ALPHA}, None, "has only alpha"),
        (PAIR, {"layer_replication": [[0, 1]]}, "layer_replication"), (PAIR, {"use_qalora": True}, "use_qalora"),
        (PAIR, {"trainable_token_indices": [1]}, "trainable_token_indices"), (PAIR, {"lora_bias": True}, "lora_bias"),
    ],
)  # fmt: skip
def test_odd_files_that_would_draw_other_pictures_are_one_sentence(
    tmp_path: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any] | None, message: str
) -> None:
    with pytest.raises(AdapterError, match=message):
        load_adapter(str(odd_file(tmp_path / "x", tensors, config)))
