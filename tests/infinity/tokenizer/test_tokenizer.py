"""Laws of the whole tokenizer."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from infinity.bits import BitLabels, fold
from infinity.checkpoint import CheckpointError
from infinity.scales import ScaleSchedule, custom_schedule
from infinity.tokenizer import Tokenizer, TokenizerConfig, load_tokenizer, save_tokenizer
from infinity.tokenizer.tokenizer import TokenizerOutput

TINY = TokenizerConfig(
    num_bits=6,
    base_width=8,
    encoder_multipliers=(1, 1, 2),
    decoder_multipliers=(1, 2, 2),
    num_res_blocks=1,
    num_downsamples=2,
)
SCHEDULE = custom_schedule(1.0, (4, 4), 4)


def new_tokenizer(config: TokenizerConfig = TINY, seed: int = 0) -> Tokenizer:
    tokenizer = Tokenizer(config)
    tokenizer.init_weights(torch.Generator().manual_seed(seed))
    return tokenizer


def random_images(batch: int = 2, height: int = 16, width: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_defaults_are_the_published_tokenizer() -> None:
    """Widths and depths of the public configuration (vae_type 32 of repository Infinity)."""
    config = TokenizerConfig(num_bits=32)
    assert config.encoder_multipliers == config.decoder_multipliers == (1, 2, 4, 4, 4)
    assert (config.base_width, config.num_res_blocks, config.autoencoder.stride_px) == (128, 2, 16)
    assert (config.quantizer, config.fold, config.token_bits) == ("bsq", False, 32)


@pytest.mark.parametrize(("usage", "entropy"), [([0.5, 0.5], 1.0), ([0.0, 1.0], 0.0), ([0.5, 1.0], 0.5)])
def test_bit_entropy_is_one_of_even_bits_and_zero_of_constant_ones(usage: list[float], entropy: float) -> None:
    zero = torch.zeros(())
    output = TokenizerOutput(
        reconstruction_B3HW=torch.zeros(1, 3, 4, 4),
        commitment=zero,
        entropy_per_sample=zero,
        entropy_batch=zero,
        usage_SC=torch.tensor([usage]),
    )
    assert output.bit_entropy() == pytest.approx(entropy)


@pytest.mark.parametrize("folded", [False, True])
@torch.no_grad()
def test_decoding_bits_equals_decoding_the_quantizers_sum(folded: bool) -> None:
    tokenizer = new_tokenizer(TINY.replace(fold=folded))
    schedule = custom_schedule(1.0, (2, 2), 2) if folded else SCHEDULE
    quantized = tokenizer.quantize(tokenizer.encode(random_images()), schedule)
    assert quantized.labels.num_bits == tokenizer.config.token_bits
    assert torch.equal(tokenizer.sum_codes(quantized.labels), quantized.summed_BCHW)
    assert torch.equal(tokenizer.decode_labels(quantized.labels), tokenizer.decode(quantized.summed_BCHW))


@torch.no_grad()
def test_folded_labels_are_the_unfolded_ones_on_half_the_grid() -> None:
    plain, folded = new_tokenizer(), new_tokenizer(TINY.replace(fold=True))
    schedule = ScaleSchedule(aspect_ratio=1.0, grids=((1, 1), (2, 2)), frame=(2, 2))
    features = plain.encode(random_images())
    flat = plain.quantize(features, schedule.unfolded())
    tokens = folded.quantize(features, schedule)
    assert torch.equal(flat.summed_BCHW, tokens.summed_BCHW)
    for k in range(schedule.num_scales):
        maps = fold(flat.labels.scale(k).permute(0, 3, 1, 2).float()) > 0.5
        assert torch.equal(tokens.labels.scale(k), maps.permute(0, 2, 3, 1))


@pytest.mark.parametrize("quantizer", ["bsq", "lfq"])
def test_training_pass_reconstructs_what_evaluation_reconstructs(quantizer: str) -> None:
    tokenizer = new_tokenizer(TINY.replace(quantizer=quantizer))
    output = tokenizer(images := random_images(), SCHEDULE)
    torch.testing.assert_close(
        output.reconstruction_B3HW.clamp(-1, 1), tokenizer.reconstruct(images, SCHEDULE), atol=1e-5, rtol=0.0
    )


def test_every_weight_gets_a_gradient() -> None:
    tokenizer = new_tokenizer()
    output = tokenizer(images := random_images(), SCHEDULE)
    (output.reconstruction_B3HW - images).abs().mean().backward()
    assert [name for name, weight in tokenizer.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_entropies_and_usage_are_those_of_the_bits() -> None:
    output = new_tokenizer()(random_images(8), SCHEDULE)
    assert 0.0 <= output.entropy_per_sample <= math.log(2)
    assert 0.0 <= output.entropy_batch <= math.log(2)
    assert output.usage_SC.shape == (4, 6)
    tokenizer = new_tokenizer()
    labels = tokenizer.quantize(tokenizer.encode(random_images(8)), SCHEDULE).labels
    usage = torch.stack([labels.scale(k).float().mean(dim=(0, 1, 2)) for k in range(4)])
    torch.testing.assert_close(output.usage_SC, usage)
    assert 0.0 <= output.bit_entropy() <= 1.0


def test_constant_bits_have_no_entropy() -> None:
    """A collapsed encoder: the same strong features everywhere."""
    tokenizer = new_tokenizer()
    with torch.no_grad():
        tokenizer.encoder.conv_out.weight.zero_()
        tokenizer.encoder.conv_out.bias.copy_(torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0]))
    assert tokenizer(random_images(), SCHEDULE).bit_entropy() == 0.0


def test_skipped_scales_are_drawn_and_the_last_is_always_kept() -> None:
    tokenizer, generator = new_tokenizer(), torch.Generator().manual_seed(0)
    images = random_images(1)
    kept = [len(tokenizer(images, SCHEDULE, keep_probability=0.5, generator=generator).usage_SC) for _ in range(60)]
    assert set(kept) == {1, 2, 3, 4}
    assert abs(sum(kept) / 60 - 2.5) < 0.5
    alone = tokenizer(images, SCHEDULE, keep_probability=0.0, generator=generator)
    last_only = custom_schedule(1.0, (4, 4), 1)
    assert torch.equal(alone.reconstruction_B3HW, tokenizer(images, last_only).reconstruction_B3HW)


def test_quantization_runs_in_float32_under_autocast() -> None:
    tokenizer = new_tokenizer()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = tokenizer.encode(random_images())
        assert features.dtype == torch.bfloat16
        assert tokenizer.quantize(features, SCHEDULE).summed_BCHW.dtype == torch.float32
        output = tokenizer(random_images(), SCHEDULE)
    assert output.commitment.dtype == torch.float32
    assert output.entropy_batch.dtype == torch.float32


def test_same_seed_gives_the_same_weights() -> None:
    one, two, other = new_tokenizer(seed=1), new_tokenizer(seed=1), new_tokenizer(seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.encoder.conv_in.weight, other.encoder.conv_in.weight)


@pytest.mark.parametrize("with_gradient", [True, False])
def test_a_truncated_pyramid_is_the_first_scales_alone(with_gradient: bool) -> None:
    """For every number of scales that can be drawn; the whole pyramid is the one without truncation."""
    tokenizer, images = new_tokenizer(), random_images()
    seen = set()
    with torch.set_grad_enabled(with_gradient):
        for seed in range(20):
            generator = torch.Generator().manual_seed(seed)
            output = tokenizer(images, SCHEDULE, truncate=True, generator=generator)
            torch.testing.assert_close(output.reconstruction_B3HW, tokenizer(images, SCHEDULE).reconstruction_B3HW)
            labels = tokenizer.quantize(tokenizer.encode(images), SCHEDULE).labels
            loop = tokenizer.start_loop(SCHEDULE, 2)
            for k in range(SCHEDULE.num_scales - 1):
                loop.add(labels.scale(k))
                if torch.allclose(tokenizer.decoder(loop.total_BCHW.clone()), output.truncated_B3HW, atol=1e-5):
                    seen.add(k)
                    break
            else:
                pytest.fail("no number of first scales gives this picture")
    assert seen == set(range(SCHEDULE.num_scales - 1))


def test_truncation_presses_early_scales_and_needs_two() -> None:
    tokenizer, images = new_tokenizer(), random_images()
    single = ScaleSchedule(aspect_ratio=1.0, grids=((4, 4),), frame=(4, 4))
    assert tokenizer(images, single, truncate=True).truncated_B3HW is None
    assert tokenizer(images, SCHEDULE).truncated_B3HW is None
    output = tokenizer(images, SCHEDULE, truncate=True, generator=torch.Generator().manual_seed(0))
    output.truncated_B3HW.square().mean().backward()
    assert all(weight.grad is not None for weight in tokenizer.parameters())
    assert any(bool((weight.grad != 0).any()) for weight in tokenizer.encoder.parameters() if weight.grad is not None)


def test_saved_tokenizer_comes_back_equal(tmp_path: Path) -> None:
    tokenizer = new_tokenizer().eval()
    save_tokenizer(str(tmp_path / "tokenizer"), tokenizer, {"step": 7})
    loaded = load_tokenizer(str(tmp_path / "tokenizer"))
    assert loaded.config == tokenizer.config
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    images = random_images()
    assert torch.equal(loaded.reconstruct(images, SCHEDULE), tokenizer.reconstruct(images, SCHEDULE))


def test_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a checkpoint folder"):
        load_tokenizer(str(tmp_path / "nothing"))


def test_wrong_sizes_and_bit_widths_are_refused() -> None:
    tokenizer = new_tokenizer()
    with pytest.raises(ValueError, match="multiples of the stride of 4 px"):
        tokenizer.encode(random_images(height=18))
    with pytest.raises(ValueError, match="for this schedule"):
        tokenizer.quantize(torch.zeros(1, 6, 8, 8), SCHEDULE)
    with pytest.raises(ValueError, match="expected labels of 6 bits per token, got 5"):
        tokenizer.decode_labels(BitLabels(SCHEDULE, torch.zeros(1, SCHEDULE.num_tokens, 5, dtype=torch.bool)))
    with pytest.raises(ValueError, match="keep_probability"):
        tokenizer(random_images(), SCHEDULE, keep_probability=2.0)


def test_strides_and_bits_of_the_published_tokenizers() -> None:
    assert TokenizerConfig(num_bits=32).stride_px == 16
    eight = TokenizerConfig(num_bits=14, num_downsamples=3, fold=True)
    assert (eight.stride_px, eight.token_bits) == (16, 56)


@pytest.mark.parametrize("kind", ["bsq", "lfq"])
def test_entropies_over_all_codes_differ_from_bitwise_ones_in_the_term_of_the_batch_alone(kind: str) -> None:
    tokenizer = new_tokenizer(
        TokenizerConfig.from_json(TINY.to_json() | {"quantizer": kind, "inverse_temperature": 1.0})
    )
    bitwise, over_codes = (tokenizer(random_images(), SCHEDULE, all_codes=every) for every in (False, True))
    torch.testing.assert_close(bitwise.entropy_per_sample, over_codes.entropy_per_sample)
    torch.testing.assert_close(bitwise.reconstruction_B3HW, over_codes.reconstruction_B3HW)
    assert bitwise.entropy_batch > over_codes.entropy_batch, "it is an upper bound"
