"""Leave out tokens of late scales (after FastVAR, arXiv 2503.23367): those that differ least from their scale's mean.

A token that is left out costs nothing in the transformer. It takes its features from the coarser scale, enlarged.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from infinity.scales import ScaleSchedule
from infinity.tokenizer.residual import resize


def computed_tokens(inputs_BMC: Float[Tensor, "B M C"], share: float) -> Int[Tensor, "B m"]:
    """Return the tokens that are computed, in ascending order: the 1 - share that differ most from the mean input.

    Args:
        share: Share that is left out, 0 to below 1; at least one token stays.

    Example:
        >>> import torch
        >>> computed_tokens(torch.tensor([[[0.0], [0.1], [9.0], [0.2]]]), 0.75).tolist()
        [[2]]
    """
    number = max(1, inputs_BMC.shape[1] - int(share * inputs_BMC.shape[1]))
    distance_BM = (inputs_BMC - inputs_BMC.mean(dim=1, keepdim=True)).norm(dim=-1)
    chosen_Bm: Tensor = distance_BM.topk(number, dim=1).indices.sort(dim=1).values
    return chosen_Bm


class PrunedScales:
    """Which tokens every scale computes, and what the others take over; one object per batch.

    Attributes:
        shares: Share of the tokens that is left out at every scale, 0 at the first.
    """

    def __init__(self, pruned: tuple[float, ...], schedule: ScaleSchedule) -> None:
        """Give the last scales their shares.

        Args:
            pruned: Shares of the last scales, coarse to fine (``SamplingConfig.pruned``).
            schedule: Grids of the tokens.

        Raises:
            ValueError: There are more shares than scales after the first, which has nothing to take over.
        """
        if len(pruned) >= schedule.num_scales:
            raise ValueError(
                f"SamplingConfig.pruned: expected at most {schedule.num_scales - 1} shares, one for each scale but the "
                f"first, got {len(pruned)}"
            )
        self.shares = (0.0,) * (schedule.num_scales - len(pruned)) + pruned
        self._grids = schedule.grids
        self._coarser: Tensor | None = None

    def choose(self, k: int, inputs_BMC: Tensor | None) -> Int[Tensor, "B m"] | None:
        """Return the tokens of scale k that are computed; None for all."""
        if inputs_BMC is None or self.shares[k] == 0:
            return None
        return computed_tokens(inputs_BMC, self.shares[k])

    def complete(
        self, k: int, hidden_BmD: Float[Tensor, "B m D"], chosen_Bm: Int[Tensor, "B m"] | None
    ) -> Float[Tensor, "B M D"]:
        """Return the features of all tokens of scale k: computed ones, and those of the coarser scale, enlarged."""
        whole = hidden_BmD
        if chosen_Bm is not None:
            assert self._coarser is not None
            batch, width = len(hidden_BmD), hidden_BmD.shape[-1]
            maps = self._coarser[:batch].transpose(1, 2).unflatten(2, self._grids[k - 1])
            whole = resize(maps, self._grids[k]).flatten(2).transpose(1, 2).contiguous()
            whole.scatter_(1, chosen_Bm.unsqueeze(-1).expand(-1, -1, width), hidden_BmD)
        if k + 1 < len(self.shares) and self.shares[k + 1] > 0:
            self._coarser = whole
        return whole
