"""The public golden cases of quantizer, autoencoder and self-correction (goldens' README, sections 1 to 3)."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from infinity.bits import BitLabels
from infinity.scales import ScaleSchedule
from infinity.tokenizer import ResidualLoop, Tokenizer, TokenizerConfig, teacher_forcing

pytestmark = pytest.mark.reference

FLOATS = {"atol": 1e-6, "rtol": 0.0}
PICTURES = {"atol": 5e-5, "rtol": 0.0}


class Case:
    """One folder of goldens."""

    def __init__(self, folder: Path) -> None:
        self.json: dict[str, Any] = json.loads((folder / "case.json").read_text())
        self.inputs = load_file(folder / "inputs.safetensors")
        self.outputs = load_file(folder / "outputs.safetensors")
        weights = folder / "state_dict.safetensors"
        self.weights = load_file(weights) if weights.exists() else {}

    @property
    def schedule(self) -> ScaleSchedule:
        grids = tuple((h, w) for _, h, w in self.json["scale_schedule"])
        return ScaleSchedule(aspect_ratio=1.0, grids=grids, frame=grids[-1])

    def bits(self, name: str, source: dict[str, Tensor]) -> list[Tensor]:
        """The list ``name.0``, ``name.1``, ... as bool maps (B, H, W, C)."""
        grids = self.schedule.grids
        num_scales = len([key for key in source if re.fullmatch(rf"{re.escape(name)}\.\d+", key)])
        maps = [source[f"{name}.{k}"] for k in range(num_scales)]
        return [m.bool().reshape(m.shape[0], *grid, m.shape[-1]) for m, grid in zip(maps, grids, strict=True)]


def test_quantizer_gives_the_reference_bits_and_sum(shared: Path) -> None:
    case = Case(shared / "goldens" / "a_bsq_d16_square")
    tokenizer = small_tokenizer(case.inputs["features"].shape[1])
    quantized = tokenizer.quantize(case.inputs["features"], case.schedule)
    for k, bits in enumerate(case.bits("bit_indices", case.outputs)):
        assert torch.equal(quantized.labels.scale(k), bits), f"scale {k}"
    torch.testing.assert_close(quantized.summed_BCHW, case.outputs["quantized_out"], **FLOATS)


def test_autoencoder_encodes_and_decodes_like_the_reference(shared: Path) -> None:
    case = Case(shared / "goldens" / "b_tokenizer_p16")
    tokenizer = reference_tokenizer(case)
    with torch.no_grad():
        features = tokenizer.encode(case.inputs["image"])
        quantized = tokenizer.quantize(features, case.schedule)
        unclamped = tokenizer.decoder(quantized.summed_BCHW)
        decoded = tokenizer.decode(quantized.summed_BCHW)
        raw = tokenizer.decode(features)
        from_bits = tokenizer.decode_labels(
            BitLabels.from_scales(case.schedule, case.bits("bit_indices", case.outputs))
        )
    torch.testing.assert_close(features, case.outputs["raw_features"], **PICTURES)
    for k, bits in enumerate(case.bits("bit_indices", case.outputs)):
        assert torch.equal(quantized.labels.scale(k), bits), f"scale {k}"
    torch.testing.assert_close(quantized.summed_BCHW, case.outputs["z"], **FLOATS)
    torch.testing.assert_close(unclamped, case.outputs["decoder_z_unclamped"], **PICTURES)
    torch.testing.assert_close(decoded, case.outputs["decode_z"], **PICTURES)
    torch.testing.assert_close(raw, case.outputs["decode_raw_features"], **PICTURES)
    torch.testing.assert_close(from_bits, case.outputs["decode_from_indices"], **PICTURES)


def test_sum_of_codes_from_bits_is_the_reference_sum(shared: Path) -> None:
    case = Case(shared / "goldens" / "b_tokenizer_p16")
    bits = case.bits("bit_indices", case.outputs)
    loop = ResidualLoop(case.schedule, batch_size=bits[0].shape[0], num_bits=bits[0].shape[-1])
    for bits_BHWC in bits:
        loop.add(bits_BHWC)
    torch.testing.assert_close(loop.total_BCHW, case.outputs["summed_codes"].squeeze(2), **FLOATS)


@pytest.mark.parametrize("run", ["clean", "flip", "flip_partial"])
def test_self_correction_gives_the_reference_inputs_and_labels(shared: Path, run: str) -> None:
    case = Case(shared / "goldens" / "c_self_correction")
    masks = case.bits("flip_mask", case.inputs)
    flips = {"clean": None, "flip": masks, "flip_partial": masks[: case.json["noise_apply_layers_partial"]]}[run]
    step = teacher_forcing(case.inputs["raw_features"], case.schedule, flips=flips)
    for k, bits in enumerate(case.bits(f"gt_bits_{run}", case.outputs)):
        assert torch.equal(step.labels.scale(k), bits), f"scale {k}"
    torch.testing.assert_close(step.inputs_BMC, case.outputs[f"x_{run}"], **FLOATS)


def small_tokenizer(num_bits: int) -> Tokenizer:
    return Tokenizer(
        TokenizerConfig(
            num_bits=num_bits, base_width=8, encoder_multipliers=(1,), decoder_multipliers=(1,), num_downsamples=0
        )
    ).eval()


def reference_tokenizer(case: Case) -> Tokenizer:
    """Our tokenizer of the case's shape with the case's weights, by an own short translation of the key names."""
    vae = case.json["vae"]
    config = TokenizerConfig(
        num_bits=vae["codebook_dim"],
        base_width=vae["base_ch"],
        encoder_multipliers=tuple(vae["encoder_ch_mult"]),
        decoder_multipliers=tuple(vae["decoder_ch_mult"]),
        num_res_blocks=vae["num_res_blocks"],
        num_downsamples=vae["patch_size"].bit_length() - 1,
    )
    tokenizer = Tokenizer(config).eval()
    tokenizer.load_state_dict({our_name(n, config): t for n, t in case.weights.items() if "lfq.mask" not in n})
    return tokenizer


def our_name(name: str, config: TokenizerConfig) -> str:
    num_blocks = {"encoder": config.num_res_blocks, "decoder": config.num_res_blocks + 1}
    name = re.sub(r"\.(conv|norm)\.(weight|bias)$", r".\2", name)
    name = name.replace(".norm1.", ".norm_1.").replace(".norm2.", ".norm_2.")
    name = name.replace(".conv1.", ".conv_1.").replace(".conv2.", ".conv_2.").replace("nin_shortcut", "shortcut")
    name = re.sub(r"mid\.block_(\d)", lambda m: f"middle.{int(m[1]) - 1}", name)
    name = re.sub(r"\.(down|up)\.(\d+)\.block\.(\d+)", r".levels.\2.\3", name)
    side = name.split(".")[0]
    return re.sub(
        r"\.(down|up)\.(\d+)\.(down|up)sample\.conv", lambda m: f".levels.{m[2]}.{num_blocks[side]}.conv", name
    )
