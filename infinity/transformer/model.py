"""The transformer and its infinite-vocabulary classifier (paper Fig. 3, section 3.3).

One masked pass in training, one pass per scale with a key-value cache in generation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from infinity.scales import ScaleSchedule
from infinity.text import TextCondition
from infinity.transformer.attention import CaptionPool, TextMemory
from infinity.transformer.block import Block, DropPathMask, Modulation, PendingBranch, modulated_norm
from infinity.transformer.budgeted_cache import BudgetedCache
from infinity.transformer.cache import CacheForm, KeyValueCache
from infinity.transformer.config import TransformerConfig
from infinity.transformer.initialisation import init_weights
from infinity.transformer.positions import LearnedPositions
from infinity.transformer.rope import rotations
from infinity.transformer.scale_attention import Kernel, attention_mask, mask_bias

MixFeatures = Callable[[int, Tensor], Tensor]
"""Function of a block's number, from 0, and its output (B, M, D) at one scale; returns the next block's input."""


@dataclass(frozen=True, slots=True)
class CaptionContext:
    """Captions as the blocks read them: pooled vectors, and per block a modulation and keys and values."""

    pooled_BD: Float[Tensor, "B D"]
    modulations: tuple[Modulation, ...]
    memories: tuple[TextMemory, ...]

    def first(self, batch_size: int) -> CaptionContext:
        """Return the first captions."""
        return CaptionContext(
            self.pooled_BD[:batch_size],
            tuple(Modulation(*(part[:batch_size] for part in each)) for each in self.modulations),
            tuple(memory.first(batch_size) for memory in self.memories),
        )

    def select(self, rows: Int[Tensor, " R"]) -> CaptionContext:
        """Return some captions; a caption may occur several times."""
        return CaptionContext(
            self.pooled_BD[rows],
            tuple(Modulation(*(part[rows] for part in each)) for each in self.modulations),
            tuple(memory.select(rows) for memory in self.memories),
        )


@dataclass(frozen=True, slots=True)
class Decoding:
    """State of generation between two scales: the captions, read once, and the growing caches of all blocks."""

    caption: CaptionContext
    caches: tuple[KeyValueCache, ...]
    schedule: ScaleSchedule

    def first(self, batch_size: int) -> Decoding:
        """Go on with the first samples alone; this object must not be used any more."""
        caches = tuple(cache.first(batch_size) for cache in self.caches)
        return Decoding(self.caption.first(batch_size), caches, self.schedule)

    def repeat(self, count: int) -> Decoding:
        """Go on with ``count`` copies of every sample, which lie side by side."""
        rows = torch.arange(len(self.caption.pooled_BD), device=self.caption.pooled_BD.device)
        rows = rows.repeat_interleave(count)
        return Decoding(self.caption.select(rows), tuple(cache.select(rows) for cache in self.caches), self.schedule)


class Transformer(nn.Module):
    """Predicts the bits of every scale from the caption and all coarser scales (paper 3.1, 3.3).

    Text, start tokens, the residual stream, norms and the head are float32; under autocast the matrix products of the
    blocks may be bfloat16.

    Attributes:
        kernel: Implementation of block-causal attention in training; results differ by rounding alone.
        cache_form: Form in which generation stores keys and values; None for that in which they are computed.
        one_form: Whether every block gets a drop path and every caption a mask, even where these change nothing, so
            that a compiler meets one form of call.
    """

    outer_layers: ClassVar[tuple[str, ...]] = ("token_project", "head")
    """Layers that read or write bits; Muon leaves them to AdamW."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.kernel: Kernel = "auto"
        self.one_form = False
        self.cache_form: CacheForm | None = None
        width = config.width
        self.unconditional_text = nn.Parameter(torch.empty(config.max_text_tokens, config.text_channels))
        self.text_norm = nn.RMSNorm(config.text_channels, eps=config.norm_eps)
        self.pool = CaptionPool(config.text_channels, width, config.num_pool_heads)
        self.text_project = nn.Sequential(
            nn.Linear(config.text_channels, width), nn.GELU(approximate="tanh"), nn.Linear(width, width)
        )
        self.start = nn.Parameter(torch.empty(width))
        has_scales = config.scale_embedding_period is not None
        self.scale_embedding = nn.Parameter(torch.empty(config.max_scales, width)) if has_scales else None
        self.token_project = nn.Linear(config.num_bits, width)
        self.modulate = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        for i, block in enumerate(self.block_modules()):
            block.feed_forward.keeps_hidden = 2 * i >= config.depth  # half of the time for half of the memory
        self.head_modulate = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, config.num_outputs)
        is_learned = config.positions == "learned"
        self.learned_positions = LearnedPositions(config.max_scales, width) if is_learned else None

    def init_weights(self, generator: torch.Generator) -> None:
        """Draw all weights as published; before that, or before weights are loaded, they are undefined."""
        init_weights(self, generator)

    def forward(
        self,
        text: TextCondition,
        inputs_BMC: Float[Tensor, "B M C"],
        schedule: ScaleSchedule,
        *,
        generator: torch.Generator | None = None,
        recompute: bool = False,
    ) -> Float[Tensor, "B L C 2"] | Float[Tensor, "B L V"]:
        """Compute the logits of all tokens, given the resized running sums of scales 2 to K (teacher forcing).

        Args:
            text: Features of B captions.
            inputs_BMC: Inputs of scales 2 to K, concatenated; M is L minus the tokens of the first scale.
            schedule: Grids of the tokens.
            generator: Source of dropped captions and of drop path; needed in training where a rate is above 0.
            recompute: Whether to use activation checkpointing: only the inputs of every block are kept for the
                backward pass.

        Returns:
            Float32 logits. The last axis of the bitwise head is (bit is 0, bit is 1); that of the joint head is the
            V = 2**C codes in the order of ``bits.bits_to_index``.

        Raises:
            ValueError: Inputs do not fit the schedule or the configuration, or training lacks a generator.
        """
        self._check(text, inputs_BMC, schedule)
        if self.training:
            text = self._drop_captions(text, generator)
        drop_paths = self._draw_drop_paths(text.batch_size, generator)
        caption = self.read(text)
        with torch.autocast(inputs_BMC.device.type, enabled=False):
            start = self._start_tokens(caption, schedule)
            x_BLD = torch.cat([start, self.token_project(inputs_BMC.float())], dim=1)
        if self.learned_positions is not None:
            x_BLD = x_BLD + self.learned_positions(schedule)
        embedding = self._embedding_of_scales(schedule)
        rotary, mask = self.rotary(schedule), attention_mask(schedule, x_BLD.device, self.kernel)
        for i, block in enumerate(self.block_modules()):
            if embedding is not None and self.config.adds_scale_embedding(i):
                x_BLD = x_BLD + embedding
            inputs = (x_BLD, caption.modulations[i], caption.memories[i], rotary, mask, drop_paths[i])
            # A compiled block is for training; sheets and validation have forms of their own and run eagerly.
            run: Callable[..., Tensor] = block if self.training else block.forward
            if recompute:
                run = block.checkpointed if self.training else partial(Block.checkpointed, block)
            x_BLD = run(*inputs)
        return self.logits(x_BLD, caption.pooled_BD)

    def read(self, text: TextCondition) -> CaptionContext:
        """Pool the captions, and compute every block's modulation, keys and values, once for all scales."""
        with torch.autocast(text.features_TD.device.type, enabled=False):
            normed = TextCondition(self.text_norm(text.features_TD.float()), text.lengths)
            is_padded = len(set(text.lengths)) > 1 or self.one_form
            bias = mask_bias(text.mask())[:, None, None] if is_padded else None
            pooled = self.pool(normed.padded()[0], bias)
            memory = TextCondition(self.text_project(normed.features_TD), text.lengths).padded()[0]
            shared = self.modulate(F.silu(pooled)).unflatten(-1, (6, -1))
            modulations = tuple(block.modulation(shared) for block in self.block_modules())
        memories = tuple(block.cross_attention.key_value(memory, bias) for block in self.block_modules())
        return CaptionContext(pooled, modulations, memories)

    def unconditional(self, text: TextCondition) -> TextCondition:
        """Return the learned replacement of the captions (unconditional branch of CFG), equally long as each."""
        rows = torch.cat([self.unconditional_text[:length] for length in text.lengths])
        return TextCondition(rows, text.lengths)

    def start_decoding(self, text: TextCondition, schedule: ScaleSchedule, shares: Sequence[float] = ()) -> Decoding:
        """Read the captions and make empty caches for ``schedule``.

        Args:
            shares: Share of the tokens so far that each block's cache keeps, 1 for all; empty is 1 for all blocks.
        """
        self._check(text, None, schedule)
        on_gpu = text.features_TD.device.type == "cuda"
        last = schedule.grids[-1][0] * schedule.grids[-1][1]
        caches = tuple(
            KeyValueCache(schedule.num_tokens, self.cache_form, by_token=on_gpu, last=last)
            if share == 1
            else BudgetedCache(schedule.num_tokens, share, self.cache_form, by_token=on_gpu, last=last)
            for share in shares or (1.0,) * len(self.blocks)
        )
        for block in self.block_modules():
            block.self_attention.join_again()
        return Decoding(self.read(text), caches, schedule)

    def decode_scale(
        self,
        decoding: Decoding,
        k: int,
        inputs_BMC: Float[Tensor, "B M C"] | None,
        mix: MixFeatures | None = None,
        chosen_Bm: Int[Tensor, "B m"] | None = None,
    ) -> Float[Tensor, "B m D"]:
        """Compute the hidden features of scale k, given the resized running sum; ``logits`` takes them.

        Args:
            decoding: Result of ``start_decoding``; scales must come in order.
            k: Number of the scale, from 0.
            inputs_BMC: Inputs (B, h_k * w_k, C); None for the first scale.
            mix: Function applied to the output of every block, for classifier-free guidance on features.
            chosen_Bm: Tokens of the scale that are computed, and that later scales see; None for all.
        """
        schedule, caption = decoding.schedule, decoding.caption
        span = schedule.spans[k]
        assert decoding.caches[0].length <= span.start, "scales must be decoded in order"
        assert (inputs_BMC is None) == (k == 0), "every scale but the first has inputs"
        with torch.autocast(caption.pooled_BD.device.type, enabled=False):
            x_BMD = self._start_tokens(caption, schedule)
            if inputs_BMC is not None:
                x_BMD = self.token_project(inputs_BMC.float())
        if self.learned_positions is not None:
            x_BMD = x_BMD + self.learned_positions(schedule)[span]
        rotary = self.rotary(schedule)[span]
        if chosen_Bm is not None:
            x_BMD = x_BMD.gather(1, chosen_Bm.unsqueeze(-1).expand(-1, -1, x_BMD.shape[-1]))
            rotary = rotary[chosen_Bm].unsqueeze(1)  # (B, 1, m, P, 2): pictures differ in positions, heads do not
        pending: PendingBranch | None = None
        for i, block in enumerate(self.block_modules()):
            if self.scale_embedding is not None and self.config.adds_scale_embedding(i):
                x_BMD, pending = _complete(x_BMD, pending) + self.scale_embedding[k], None
            inputs = (caption.modulations[i], caption.memories[i], rotary, decoding.caches[i])
            x_BMD, pending = block.advance(x_BMD, pending, *inputs)
            if mix is not None:
                x_BMD, pending = mix(i, _complete(x_BMD, pending)), None
        return _complete(x_BMD, pending)

    def logits(
        self, x_BLD: Float[Tensor, "B L D"], pooled_BD: Float[Tensor, "B D"]
    ) -> Float[Tensor, "B L C 2"] | Float[Tensor, "B L V"]:
        """Apply the head: adaptive norm by the pooled caption, then the classifier, all in float32."""
        with torch.autocast(x_BLD.device.type, enabled=False):
            scale, shift = self.head_modulate(F.silu(pooled_BD)).unsqueeze(1).chunk(2, dim=-1)
            logits: Tensor = self.head(modulated_norm(x_BLD, scale + 1, shift, self.config.norm_eps))
        return logits.unflatten(-1, (-1, 2)) if self.config.head == "bitwise" else logits

    def block_modules(self) -> Iterable[Block]:
        """Return the blocks, first to last."""
        return cast("Iterable[Block]", self.blocks)

    def _start_tokens(self, caption: CaptionContext, schedule: ScaleSchedule) -> Float[Tensor, "B M D"]:
        return (caption.pooled_BD + self.start).unsqueeze(1).expand(-1, schedule.spans[0].stop, -1)

    def _embedding_of_scales(self, schedule: ScaleSchedule) -> Float[Tensor, "L D"] | None:
        """Return the scale embedding of every token; None for a model without."""
        if self.scale_embedding is None:
            return None
        areas = torch.tensor([h * w for h, w in schedule.grids], device=self.scale_embedding.device)
        rows = self.scale_embedding[: schedule.num_scales]
        return rows.repeat_interleave(areas, dim=0, output_size=schedule.num_tokens)

    def rotary(self, schedule: ScaleSchedule) -> Float[Tensor, "L P 2"]:
        """Return cosines and sines as real numbers, since ``torch.compile`` does not support complex ones."""
        rotary = rotations(schedule, self.config.head_width, self.config.positions, self.start.device)
        return torch.view_as_real(rotary)

    def _drop_captions(self, text: TextCondition, generator: torch.Generator | None) -> TextCondition:
        """Replace random captions by the learned table; the table stays in the graph even when none is dropped."""
        drop = _draw(self.config.condition_drop, (text.batch_size,), generator, text.features_TD.device)
        lengths = torch.tensor(text.lengths, device=drop.device)
        dropped = drop.repeat_interleave(lengths, output_size=sum(text.lengths)).unsqueeze(-1)
        features = torch.where(dropped, self.unconditional(text).features_TD, text.features_TD.float())
        return TextCondition(features, text.lengths)

    def _draw_drop_paths(self, batch_size: int, generator: torch.Generator | None) -> list[DropPathMask | None]:
        drop_paths: list[DropPathMask | None] = []
        for i in range(self.config.depth):
            rate = self.config.drop_path_rate(i)
            if not self.training or (rate == 0.0 and not self.one_form):
                drop_paths.append(None)
                continue
            kept = ~_draw(rate, (2, batch_size, 1, 1), generator, self.start.device)
            drop_paths.append(DropPathMask(*(kept.float() / (1.0 - rate)).unbind(0)))
        return drop_paths

    def _check(self, text: TextCondition, inputs_BMC: Tensor | None, schedule: ScaleSchedule) -> None:
        config = self.config
        if max(text.lengths) > config.max_text_tokens or text.channels != config.text_channels:
            raise ValueError(
                f"Transformer: expected captions of at most {config.max_text_tokens} tokens with "
                f"{config.text_channels} channels, got up to {max(text.lengths)} tokens with {text.channels}; "
                "was another text encoder used?"
            )
        if schedule.num_scales > config.max_scales:
            raise ValueError(
                f"Transformer: this model embeds {config.max_scales} scales, the schedule has {schedule.num_scales}"
            )
        if inputs_BMC is None:
            return
        expected = (text.batch_size, schedule.num_tokens - schedule.spans[0].stop, config.num_bits)
        if tuple(inputs_BMC.shape) != expected:
            raise ValueError(
                f"Transformer: expected inputs of shape {expected} (captions, tokens after the first scale, bits of a "
                f"token), got {tuple(inputs_BMC.shape)}; another schedule or tokenizer?"
            )


def _complete(x_BLD: Float[Tensor, "B L D"], pending: PendingBranch | None) -> Float[Tensor, "B L D"]:
    """Return the residual stream with the branch that was not added yet."""
    return x_BLD if pending is None else pending.added_to(x_BLD)


def _draw(
    rate: float, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device
) -> Bool[Tensor, "*shape"]:
    """Draw booleans that are true with probability ``rate``, on the generator's device."""
    if rate == 0.0:
        return torch.zeros(shape, dtype=torch.bool, device=device)
    if generator is None:
        raise ValueError(
            "Transformer: training with condition_drop or drop_path above 0 draws random numbers; pass a generator, or "
            "call eval()"
        )
    return (torch.rand(shape, generator=generator, device=generator.device) < rate).to(device)
