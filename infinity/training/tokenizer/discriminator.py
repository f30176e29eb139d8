"""A patch discriminator (PatchGAN, arXiv:1611.07004; recipe of BitVAE), which tells pictures from reconstructions.

Hinge losses (arXiv:1705.02894), and the LeCam regulariser (arXiv:2104.03310) in two forms: the published recipe keeps
the mean answers of a batch near zero, the original keeps answers near running means of the opposite side (decision 30).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from infinity.config import Config
from infinity.ranges import Count, Natural, NotNegative, ShareBelowOne
from infinity.training.adversary import AdversarialLoss, Adversary
from infinity.training.optimizers.optimizer import OptimizerConfig, make_optimizer


@dataclass(frozen=True, kw_only=True, slots=True)
class AdversarialConfig(Config):
    """A discriminator, its optimizer and the weights of its losses. The defaults are the published recipe.

    Attributes:
        optimizer: Optimizer of the discriminator; the published rate is twice the tokenizer's.
        from_step: Updates of the tokenizer before the discriminator and the adversarial term start.
        weight: Weight of the tokenizer's hinge term, which is minus the mean answer to its reconstructions.
        num_layers: Convolutions of stride 2; a patch is ``9 * 2**num_layers - 2`` pixels wide.
        base_width: Channels of the first convolution; each doubles them, up to eight times this.
        norm: Norm of the inner layers. "batch" takes the statistics of the micro-batch, of pictures and
            reconstructions apart, and keeps no running ones, so that a skipped batch leaves no trace. "group"
            normalises every picture by itself, with 32 channels per group.
        lecam: Weight of the LeCam regulariser; 0 for none.
        lecam_margin: Largest distance of the mean answer from zero that the published form does not penalise.
        lecam_decay: Decay of the running means of the original form; None for the published form.
    """

    optimizer: OptimizerConfig
    from_step: Natural = 0
    weight: NotNegative = 0.3
    num_layers: Count = 3
    base_width: Count = 128
    norm: Literal["batch", "group"] = "batch"
    lecam: NotNegative = 0.05
    lecam_margin: NotNegative = 0.1
    lecam_decay: ShareBelowOne | None = None

    def __post_init__(self) -> None:
        if self.norm == "group" and self.base_width % 16:
            raise ValueError(
                f"AdversarialConfig.base_width: expected a multiple of 16 with norm='group', got {self.base_width}"
            )


class PatchDiscriminator(nn.Module):
    """Maps RGB in [-1, 1] to one answer per patch: large for pictures, small for reconstructions."""

    def __init__(self, config: AdversarialConfig) -> None:
        super().__init__()
        self.config = config
        width = config.base_width
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for number in range(1, config.num_layers + 1):
            before, width = width, config.base_width * min(2**number, 8)
            stride = 2 if number < config.num_layers else 1
            layers += [
                nn.Conv2d(before, width, 4, stride=stride, padding=1, bias=False),
                _norm(width, config.norm),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 4, padding=1))
        self.outer_layers = ("layers.0", f"layers.{len(layers)}")  # Muon leaves them to AdamW
        self.register_buffer("averages", torch.zeros(2))  # running mean answers to pictures and to reconstructions
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw kernels with deviation 0.02 and norm weights around 1, as published; set biases to 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02, generator=generator)
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                nn.init.normal_(module.weight, 1.0, 0.02, generator=generator)
            else:
                continue
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        self.get_buffer("averages").zero_()

    @property
    def least_px(self) -> int:
        """Smallest side of a picture in pixels, for 2 x 2 answers: the last two convolutions remove one place each."""
        return int(4 * 2**self.config.num_layers)

    def forward(self, images_B3HW: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 h w"]:
        """Return the answers of all patches.

        Raises:
            ValueError: Pictures too small for ``num_layers``.
        """
        if min(images_B3HW.shape[-2:]) < self.least_px:
            found = " x ".join(map(str, images_B3HW.shape[-2:]))
            raise ValueError(
                f"discriminator: {self.config.num_layers} layers need pictures of at least {self.least_px} px a side, "
                f"got {found}; set adversarial.num_layers lower"
            )
        answers: Tensor = self.layers(images_B3HW.contiguous(memory_format=torch.channels_last))
        return answers

    def generator_loss(self, rebuilt_B3HW: Float[Tensor, "B 3 H W"]) -> Float[Tensor, ""]:
        """Return the tokenizer's hinge term, unweighted: minus the mean answer; no weight here gets a gradient."""
        weights = list(self.parameters())
        for weight in weights:
            weight.requires_grad_(False)
        try:
            answers: Tensor = self(rebuilt_B3HW)
            return -answers.mean()
        finally:
            for weight in weights:
                weight.requires_grad_(True)

    def discriminator_loss(
        self, images_B3HW: Float[Tensor, "B 3 H W"], rebuilt_B3HW: Float[Tensor, "B 3 H W"]
    ) -> AdversarialLoss:
        """Return the discriminator's loss, and its mean answers to pictures and to reconstructions."""
        real, fake = self(images_B3HW), self(rebuilt_B3HW.detach())
        loss = 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())
        if self.config.lecam > 0:
            loss = loss + self.config.lecam * self._regulariser(real, fake)
        return AdversarialLoss(loss, torch.stack([real.detach().mean(), fake.detach().mean()]))

    def absorb(self, seen: Float[Tensor, " 2"]) -> None:
        """Move the running means towards the answers of a batch that was trained on."""
        if self.config.lecam_decay is not None:
            self.get_buffer("averages").lerp_(seen, 1.0 - self.config.lecam_decay)

    def _regulariser(self, real: Tensor, fake: Tensor) -> Tensor:
        if self.config.lecam_decay is None:
            margin = self.config.lecam_margin
            return F.relu(real.mean().abs() - margin).square() + F.relu(fake.mean().abs() - margin).square()
        of_real, of_fake = self.get_buffer("averages").unbind()
        return F.relu(real - of_fake).square().mean() + F.relu(of_real - fake).square().mean()


def adversary_of(discriminator: PatchDiscriminator) -> Adversary:
    """Join a discriminator, already on its device, with its optimizer."""
    config = discriminator.config
    optimizer = make_optimizer(discriminator, config.optimizer)
    # Two values seen: the mean answers to pictures and to reconstructions.
    return Adversary(discriminator, optimizer, config.optimizer, from_step=config.from_step, num_seen=2)


def _norm(width: int, kind: Literal["batch", "group"]) -> nn.Module:
    if kind == "group":
        return nn.GroupNorm(max(1, width // 32), width)
    return nn.BatchNorm2d(width, track_running_stats=False)
