"""A finetuning in the words of its user: subject, style, trigger words, prior preservation, validation prompts.

``infinity finetune`` builds the data sets and runs the spec that this module returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from infinity import storage
from infinity.data.loading.mixture import SetConfig, ShareConfig
from infinity.generation.pipeline import TOKENIZER_FOLDER
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.ranges import Range
from infinity.recipes.paper_transformer import PAPER_STAGES, FinetuneInputs, TransformerInputs, finetune_spec
from infinity.text import T5TextConfig

ADAPTER_RATE = 1e-4
"""Learning rate of adapters on a published model, as usual for LoRA."""
SMALL_ADAPTER_RATE = 1e-3
"""Learning rate of adapters on a small model with the built-in text encoder (``examples/finetune.py``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finetuning(FinetuneInputs):
    """What a user says about a finetuning; shape, tokenizer, text encoder and resolution are those of the base.

    Attributes:
        base: URI of the model folder to begin with.
        output: URI of the folder in which the training makes its folder.
        micro_batch: Pictures that are computed at once; less needs less memory and gives the same update.
        learning_rate: Learning rate; None for 1e-4 with adapters (1e-3 on small models), 2e-5 for all weights.
        trigger: Words before each caption of the new pictures, which call them up later; empty for none.
        folder_repeats: Whether pictures of a folder such as ``10_cat`` come that many times as often.
        prior_weight: Share of the pictures of a batch that come from the pictures of prior preservation, above 0 and
            below 1.
        caption_dropout: Share of the captions that are left out, for classifier-free guidance, 0 to 1; None for that
            of the base.
        prompts: Validation prompts, drawn with the same seeds at every interval; empty for captions of the data.
        sample_every: Steps between two sheets of drawings; None for five sheets in all.
        text_model: Folder or hub name of the base's T5, if it has moved; None for the place that the base names.
        num_workers: Number of processes, each with a GPU where ``use_gpu`` is set.
        min_workers: Fewest processes, where the cluster may shrink and grow; None for all of ``num_workers``.
        seed: Seed of the order of pictures and of all draws.
    """

    base: str
    output: str
    num_steps: int = 400
    batch_size: int = 8
    micro_batch: int = 4
    rank: int | None = 16
    learning_rate: float | None = None
    trigger: str = ""
    folder_repeats: bool = True
    prior_weight: Annotated[float, Range(above=0, below=1)] = 0.5
    caption_dropout: float | None = None
    prompts: tuple[str, ...] = ()
    sample_every: int | None = None
    text_model: str | None = None
    num_workers: int = 1
    min_workers: int | None = None
    use_gpu: bool = False
    seed: int = 0

    def spec(self, manifest: str, prior: str | None = None) -> TrainTransformerSpec:
        """Return the spec of the training.

        Args:
            manifest: URI of the manifest of the new pictures.
            prior: URI of the manifest of pictures that show what the model must not forget; None for none.

        Raises:
            CheckpointError: There is no model folder.
            ValueError: Numbers do not fit each other.
        """
        inputs = TransformerInputs(
            manifests=(manifest,),
            tokenizer=storage.join(self.base, TOKENIZER_FOLDER),
            output=self.output,
            start_from=self.base,
            text_model=self.text_model,
            num_workers=self.num_workers,
            part_size=min(self.micro_batch, self.batch_size),
        )
        spec = finetune_spec(inputs, self)
        share = ShareConfig(trigger=self.trigger, folder_repeats=self.folder_repeats)
        sets: tuple[SetConfig, ...] = ()
        if prior is not None:
            share = share.replace(weight=1.0 - self.prior_weight)
            sets = (SetConfig(manifest=prior, share=ShareConfig(weight=self.prior_weight)),)
        model = spec.model
        if self.caption_dropout is not None:
            model = model.replace(condition_drop=self.caption_dropout)
        return spec.replace(
            model=model,
            optimizer=spec.optimizer.replace(learning_rate=self._rate(spec)),
            loop=spec.loop.replace(sample_every_steps=self.sample_every or spec.loop.sample_every_steps),
            prompts=self.prompts,
            workers=spec.workers.replace(min_workers=self.min_workers),
            share=share,
            sets=sets,
            seed=self.seed,
        )

    def _rate(self, spec: TrainTransformerSpec) -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        if self.rank is None:
            return PAPER_STAGES[-1].learning_rate
        return ADAPTER_RATE if isinstance(spec.text, T5TextConfig) else SMALL_ADAPTER_RATE
