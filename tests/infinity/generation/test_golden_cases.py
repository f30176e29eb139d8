"""The public golden cases of training and generation (goldens' README, sections 4 and 5)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from infinity.convert import tokenizer_from_published, transformer_from_published, transformer_to_published
from infinity.generation import Conditions, SamplingConfig, sample_bits, to_uint8
from infinity.scales import ScaleSchedule, published_schedule
from infinity.text import TextCondition
from infinity.transformer import Transformer
from infinity.transformer.loss import bitwise_cross_entropy, scale_weights

pytestmark = pytest.mark.reference

LOGITS = {"atol": 1e-3, "rtol": 0.0}


class Case:
    """One folder of goldens with the model whose weights it holds."""

    def __init__(self, folder: Path) -> None:
        self.json: dict[str, Any] = json.loads((folder / "case.json").read_text())
        self.inputs = load_file(folder / "inputs.safetensors")
        self.outputs = load_file(folder / "outputs.safetensors")
        self.published = transformer_from_published(load_file(folder / "state_dict.safetensors"), where=str(folder))
        self.model = Transformer(self.published.config).eval()
        self.model.load_state_dict(self.published.tensors)
        self.text = TextCondition(self.inputs["kv_compact"], tuple(self.json["text_lens"]))
        self.folder = folder

    @property
    def schedule(self) -> ScaleSchedule:
        schedule = published_schedule(1.0, "256")
        assert [[1, *grid] for grid in schedule.grids] == self.json["scale_schedule"]
        return schedule


def test_training_logits_losses_and_gradients(shared: Path) -> None:
    case = Case(shared / "goldens" / "d_transformer_train")
    logits = case.model(case.text, case.inputs["x_BLC_wo_prefix"], case.schedule)
    torch.testing.assert_close(logits.flatten(2), case.outputs["logits"], **LOGITS)
    loss_BL = bitwise_cross_entropy(logits, case.inputs["gt_bits"].bool())
    torch.testing.assert_close(loss_BL, case.outputs["loss_per_token"], atol=1e-5, rtol=0)
    reweighted = (loss_BL * scale_weights(case.schedule)).sum(-1).mean()
    assert reweighted.item() == pytest.approx(case.json["loss_reweighted_by_scale"], abs=1e-5)
    for loss, name in ((loss_BL.mean(), "loss_mean"), (reweighted, "loss_reweighted")):
        gradients = _published_gradients(case, loss)
        for parameter, norm in case.json[f"grad_norm_of_{name}"].items():
            assert gradients[parameter].norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-7), parameter
        if name == "loss_mean":
            stored = [key for key in case.outputs if key.startswith("grad.")]
            assert stored
            for key in stored:
                error = (gradients[key.removeprefix("grad.")] - case.outputs[key]).norm()
                assert error <= 1e-3 * case.outputs[key].norm(), key


def _published_gradients(case: Case, loss: Tensor) -> dict[str, Tensor]:
    parameters = dict(case.model.named_parameters())
    found = torch.autograd.grad(loss, list(parameters.values()), retain_graph=True, allow_unused=True)
    gradients = {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }
    return transformer_to_published(case.published.config, gradients, num_chunks=case.published.num_chunks)


@torch.no_grad()
def test_greedy_generation_with_guidance(shared: Path) -> None:
    case = Case(shared / "goldens" / "e_inference")
    weights = load_file(case.folder / case.json["vae_state_dict"])
    tokenizer = tokenizer_from_published(weights, where="case e").build()
    sampling = SamplingConfig(
        guidance=tuple(case.json["cfg_list"]), temperature=tuple(case.json["tau_list"]), greedy=True
    )
    sampled = sample_bits(
        case.model,
        tokenizer,
        Conditions(case.text, [torch.Generator()] * 2),
        schedule=case.schedule,
        sampling=sampling,
        keep_logits=True,
    )
    for k in range(case.schedule.num_scales):
        assert torch.equal(sampled.labels.scale(k), case.outputs[f"bits.{k}"].bool()), f"scale {k}"
    assert sampled.logits is not None
    assert sampled.head_logits is not None
    torch.testing.assert_close(sampled.logits.flatten(2), case.outputs["final_logits"], **LOGITS)
    head = torch.cat(sampled.head_logits, dim=1).flatten(2)
    torch.testing.assert_close(head, case.outputs["raw_head_logits"], **LOGITS)
    torch.testing.assert_close(sampled.summed_BCHW, case.outputs["summed_codes"], atol=1e-6, rtol=0)
    image = tokenizer.decode(sampled.summed_BCHW)
    torch.testing.assert_close(image[:1], case.outputs["image_float"], atol=5e-5, rtol=0)
    bgr = to_uint8(image).flip(-1)  # the reference swaps red and blue
    assert (bgr.int() - case.outputs["image_uint8_bgr_hwc"].int()).abs().max() <= 1
