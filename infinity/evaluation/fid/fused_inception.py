"""The Inception network as it runs: the same features up to rounding, with batch norms fused into convolutions."""

from __future__ import annotations

import copy
from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from infinity.evaluation.fid.inception import Inception, InceptionFeatures, Unit
from infinity.evaluation.fid.inception_weights import InceptionWeights, load_inception

_PICTURES_AT_ONCE = 8
"""Pictures per pass on a CPU: the feature maps of more pictures would leave its cache."""


class FusedInception(nn.Module):
    """Network from prepared pictures to features, in float32; built from a loaded network, which is not changed."""

    def __init__(self, network: Inception) -> None:
        super().__init__()
        fused = copy.deepcopy(network).eval()
        for unit in fused.modules():
            if isinstance(unit, Unit):
                unit.conv = fuse_conv_bn_eval(unit.conv, unit.bn)
                unit.bn = nn.Identity()  # type: ignore[assignment]
        self.network = fused.to(memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]

    def forward(self, images: Float[Tensor, "B 3 299 299"]) -> InceptionFeatures:
        """Return the features of prepared pictures, whose values are about -1 to 1 (see ``preparation``)."""
        size = _PICTURES_AT_ONCE if images.device.type == "cpu" else len(images)
        groups = [self.network(group.contiguous(memory_format=torch.channels_last)) for group in images.split(size)]
        names = [field.name for field in fields(InceptionFeatures)]
        return InceptionFeatures(**{name: torch.cat([getattr(group, name) for group in groups]) for name in names})


def load_fused_inception(weights: InceptionWeights, device: str) -> FusedInception:
    """Return the network with the given weights, fused, on a device.

    Raises:
        WeightsError: The weights cannot be downloaded, or are not what their checksum says.
        CheckpointError: Tensors are missing, unknown or of another shape.
        StorageError: The file cannot be read.
    """
    return FusedInception(load_inception(weights)).to(device)
