"""Replay of cached greedy generation with guidance (goldens README, sections 5 and 6)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from infinity.bits import BitLabels
from infinity.generation import Conditions, SampledBits, SamplingConfig, sample_bits, to_uint8
from infinity.scales import ScaleSchedule
from infinity.text import TextCondition
from infinity.tokenizer import Tokenizer, TokenizerConfig
from infinity.tokenizer.residual import unfold_bits
from infinity.transformer import Transformer
from infinity.transformer.loss import likeliest_bits
from tests.parity.case import Case, CaseError
from tests.parity.ledger import LOGITS, MARGIN, QUANTIZER, STATISTIC, TOKENIZER, Ledger
from tests.parity.model.tokenizer import build_tokenizer
from tests.parity.model.transformer import build_transformer, check_codebook_dim


@dataclass(frozen=True)
class Run:
    """One replayed generation and what it was made with."""

    transformer: Transformer
    tokenizer: Tokenizer
    text: TextCondition
    negative: TextCondition | None
    schedule: ScaleSchedule
    sampling: SamplingConfig
    sampled: SampledBits


@torch.no_grad()
def replay_inference(ledger: Ledger) -> None:
    """Captions to bits to pictures."""
    run = _run(ledger)
    labels = run.sampled.labels
    for k in range(run.schedule.num_scales):
        ledger.equal(f"bits.{k}", _like_expected(ledger.case, f"bits.{k}", labels.scale(k)))
    ledger.close("summed_codes", run.sampled.summed_BCHW, QUANTIZER)
    rebuilt = _rebuild_inputs(run.tokenizer, labels)
    ledger.close("x_BLC_wo_prefix_rebuilt", rebuilt, QUANTIZER)
    assert run.sampled.logits is not None
    ledger.close("final_logits", run.sampled.logits.flatten(2), LOGITS)
    _compare_head_logits(ledger, run, rebuilt)
    _compare_pictures(ledger, run)
    _compare_figures(ledger, run, rebuilt)


def _run(ledger: Ledger) -> Run:
    case = ledger.case
    transformer, _ = build_transformer(ledger)
    tokenizer = _tokenizer(ledger, transformer.config.num_bits)
    text, negative, schedule = case.text(), _negative(ledger), case.schedule()
    sampling = _sampling(case)
    sampled = sample_bits(
        transformer,
        tokenizer,
        Conditions(text, [torch.Generator() for _ in text.lengths], negative),  # greedy: nothing is drawn
        schedule=schedule,
        sampling=sampling,
        keep_logits=True,
    )
    about = {
        "text_lens": list(text.lengths),
        "batch": text.batch_size,
        "negative_text_lens": None if negative is None else list(negative.lengths),
        "vae_scale_schedule": [[1, h, w] for h, w in (schedule.unfolded() if case.folds else schedule).grids],
    }
    ledger.listed_numbers(about)
    check_codebook_dim(ledger, transformer.config.num_bits)
    return Run(transformer, tokenizer, text, negative, schedule, sampling, sampled)


def _tokenizer(ledger: Ledger, num_bits: int) -> Tokenizer:
    """The case's tokenizer; without one, a blank, which can sum codes but not decode."""
    state, fold = ledger.case.tokenizer_state(), ledger.case.folds
    if state:
        return build_tokenizer(ledger, state, fold=fold)
    return Tokenizer(TokenizerConfig(num_bits=num_bits // (4 if fold else 1), base_width=32, fold=fold)).eval()


def _sampling(case: Case) -> SamplingConfig:
    about = case.about
    is_greedy = about.get("decoding", "greedy") == "greedy" or about.get("top_k") == 1
    if not is_greedy:
        raise CaseError(f"decoding: only greedy cases can be replayed, found {about.get('decoding')!r}")
    layers = about.get("cfg_insertion_layer", [0])
    layers = [layers] if isinstance(layers, int) else layers
    if any(layer > 0 for layer in layers):
        raise CaseError(f"cfg_insertion_layer: expected 0 (logits) or -n (output of block depth - n), found {layers}")
    return SamplingConfig(
        guidance=tuple(float(factor) for factor in about["cfg_list"]),
        guide_logits=0 in layers,
        guided_blocks=tuple(layer for layer in layers if layer < 0),
        temperature=tuple(float(temperature) for temperature in about["tau_list"]),
        greedy=True,
    )


def _negative(ledger: Ledger) -> TextCondition | None:
    """Negative captions, under whatever prefix or suffix their two tensors have."""
    inputs = ledger.case.inputs
    features = [name for name in inputs if "kv_compact" in name and name != "kv_compact"]
    offsets = [name for name in inputs if "cu_seqlens" in name and name != "cu_seqlens_k"]
    lengths = ledger.case.about.get("negative_text_lens")
    if not features and not lengths:
        return None
    if len(features) != 1 or (not offsets and not lengths):
        raise CaseError(f"expected one kv_compact and lengths of negative captions, found {features} and {offsets}")
    if offsets:
        ends = inputs[offsets[0]].tolist()
        lengths = [b - a for a, b in pairwise(ends)]
    return TextCondition(inputs[features[0]], tuple(int(length) for length in lengths))


def _like_expected(case: Case, name: str, bits: Tensor) -> Tensor:
    """Token bits as recorded: with folding either tokens (B, h, w, 4d) or positions (B, 2h, 2w, d)."""
    expected = case.expected.get(name)
    if expected is not None:
        bits = _planes(case, name, bits)
    if expected is not None and expected.ndim == 5:
        bits = bits.unsqueeze(1)
    return bits


def _planes(case: Case, name: str, bits: Tensor) -> Tensor:
    """Bits as planes in space: with folding those of the tokenizer's positions, unless a case records tokens."""
    expected = case.expected.get(name)
    records_tokens = expected is not None and expected.shape[-1] == bits.shape[-1]
    return unfold_bits(bits) if case.folds and not records_tokens else bits


def _rebuild_inputs(tokenizer: Tokenizer, labels: BitLabels) -> Tensor:
    """Inputs of the training form that these bits imply."""
    loop = tokenizer.start_loop(labels.schedule, labels.batch_size)
    inputs = []
    for k in range(labels.schedule.num_scales - 1):
        loop.add(labels.scale(k))
        inputs.append(loop.next_input(k))
    return torch.cat(inputs, dim=1)


def _compare_head_logits(ledger: Ledger, run: Run, rebuilt: Tensor) -> None:
    """The plain output of the head; where a scale is not guided, the reference has no unconditional rows."""
    name = "raw_head_logits"
    assert run.sampled.head_logits is not None
    heads = [head.flatten(2) for head in run.sampled.head_logits]
    for k, head in enumerate(heads):
        ledger.close(f"{name}.{k}", head, LOGITS)
    expected = ledger.case.expected.get(name)
    if expected is None:
        return
    batch, rows = run.text.batch_size, expected.shape[0]
    if rows > batch and any(head.shape[0] < rows for head in heads):
        unconditional = run.transformer.unconditional(run.text) if run.negative is None else run.negative
        other = run.transformer(unconditional, rebuilt, run.schedule).flatten(2)
        for k, span in enumerate(run.schedule.spans):
            if heads[k].shape[0] < rows:
                heads[k] = torch.cat([heads[k], _filler(expected[batch:, span], other[:, span])])
    ledger.close(name, torch.cat([head[:rows] for head in heads], dim=1), LOGITS)


def _filler(recorded: Tensor, unconditional: Tensor) -> Tensor:
    """Rows where the reference has none: a case may record only zeros, only NaN, or what the head would give."""
    is_filler = bool((recorded == 0).all() or recorded.isnan().all())
    return recorded if is_filler else unconditional


def _compare_pictures(ledger: Ledger, run: Run) -> None:
    """Floats, and 8-bit pictures: off by one only where the float lies on a rounding edge."""
    expected = ledger.case.expected
    pictures = run.tokenizer.decode(run.sampled.summed_BCHW)
    for name in ("image_float", "decoded_image"):
        if name in expected:
            ledger.close(name, pictures[: expected[name].shape[0]], TOKENIZER)
    levels = ((pictures + 1) / 2 * 255).permute(0, 2, 3, 1)
    for name, flips in (("image_uint8_bgr_hwc", True), ("image_uint8_rgb_hwc", False)):
        if name in expected:
            count = expected[name].shape[0]
            rgb, exact = to_uint8(pictures)[:count], levels[:count]
            ledger.picture(name, rgb.flip(-1) if flips else rgb, exact.flip(-1) if flips else exact)


def _compare_figures(ledger: Ledger, run: Run, rebuilt: Tensor) -> None:
    logits, labels, schedule = run.sampled.logits, run.sampled.labels, run.schedule
    assert logits is not None
    margins = (logits[..., 1] - logits[..., 0]).abs()
    scales = [_planes(ledger.case, f"bits.{k}", labels.scale(k)).double() for k in range(schedule.num_scales)]
    varies = [float((s != s[:, :1, :1]).flatten(1, 2).any(dim=1).double().mean()) for s in scales]
    ledger.listed_numbers(
        {"min_abs_logit_margin_per_scale": [float(margins[:, s].min()) for s in schedule.spans]}, MARGIN
    )
    means = {"bit_mean_per_scale": [float(scale.mean()) for scale in scales]}
    ledger.listed_numbers(means | {"fraction_of_bit_planes_that_vary_in_space": varies}, STATISTIC)
    ledger.listed_numbers({"checks.final_logits_std": float(logits.std())}, LOGITS)
    sums = run.tokenizer.sum_codes(labels)
    distance = float((sums - run.sampled.summed_BCHW).abs().max())
    ledger.listed_numbers({"checks.summed_codes_vs_rebuilt": distance}, QUANTIZER)
    _compare_with_training_form(ledger, run, rebuilt)


def _compare_with_training_form(ledger: Ledger, run: Run, rebuilt: Tensor) -> None:
    """Our cached logits against our training form on the same bits, as the case did with the reference's."""
    if run.sampling.guided_blocks:
        return  # guidance inside the network has no counterpart in the training form
    text, inputs = run.text, rebuilt
    factors = run.sampling.guidance_at(run.schedule)
    forced = run.transformer(text, inputs, run.schedule)
    if any(factor != 1 for factor in factors):
        unconditional = run.transformer.unconditional(text) if run.negative is None else run.negative
        other = run.transformer(unconditional, inputs, run.schedule)
    else:
        other = forced
    per_scale = []
    agree = []
    assert run.sampled.logits is not None
    for k, span in enumerate(run.schedule.spans):
        tau = run.sampling.temperature_at(run.schedule)[k]
        guided = (factors[k] * forced[:, span] + (1 - factors[k]) * other[:, span]) / tau
        per_scale.append(float((guided - run.sampled.logits[:, span]).abs().max()))
        agree.append(likeliest_bits(guided, guided.shape[2]) == run.sampled.labels.bits_BLC[:, span])
    ledger.information["teacher_forced_vs_cached_max_abs_logit_diff_per_scale"] = per_scale
    ledger.require(max(per_scale) <= LOGITS, f"cached and teacher-forced logits differ by {max(per_scale):g}")
    share = float(torch.cat([a.flatten() for a in agree]).double().mean())
    ledger.listed_numbers({"checks.bits_agree_fraction": share}, STATISTIC)
    _check_reference_noise(ledger)


def _check_reference_noise(ledger: Ledger) -> None:
    """The reference's own distance between its two passes: its largest figure is that of a scale, and small."""
    checks = ledger.case.about.get("checks", {})
    largest, per_scale = checks.get("teacher_forced_vs_kv_cached_max_abs_logit_diff"), checks.get("per_scale")
    if largest is None or not per_scale:
        return
    ledger.number("checks.teacher_forced_vs_kv_cached_max_abs_logit_diff", max(per_scale), largest)
    ledger.require(max(per_scale) <= LOGITS, f"checks.per_scale: {max(per_scale)} is beyond the tolerance {LOGITS}")
