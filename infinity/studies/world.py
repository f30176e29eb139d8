"""Building blocks of studies at three sizes: drawn scenes in miniature and in small, and the paper's own trainings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from infinity import storage
from infinity.evaluation.geneval.benchmark import GenevalBenchmark
from infinity.evaluation.geneval.scenes import SceneBenchmark
from infinity.evaluation.geneval.search import BestOf
from infinity.evaluation.reconstruction.benchmark import ReconstructionBenchmark
from infinity.evaluation.validation import ValidationBenchmark
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.cluster.workers import WorkersConfig
from infinity.jobs.evaluation.spec import EvaluateSpec
from infinity.jobs.spec import JobSpec
from infinity.jobs.training.base import MODEL_FOLDER
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.recipes.paper_tokenizer import TokenizerInputs, tokenizer_recipe
from infinity.recipes.paper_transformer import TransformerInputs, paper_stages
from infinity.recipes.runs import EndToEnd, end_to_end
from infinity.studies.finished import FinishedModel, check_seeds
from infinity.training.learner import LoopConfig

Size = Literal["mini", "small", "paper"]
SIZES: tuple[Size, ...] = get_args(Size)
SELF_CORRECTION = 0.3
"""Rate of the arms that are not about it, the paper's best."""
STEPS = {"mini": (12, 8), "small": (600, 400)}
"""Steps of a tokenizer and of a transformer; the recipe "demo" has 1,200 and 1,200."""


@dataclass(frozen=True, slots=True)
class World:
    """Specs of one size, from which the arms of a study differ in a few fields.

    Attributes:
        size: "mini" takes seconds per training and learns nothing, "small" is a third of the recipe "demo" and takes
            minutes on two cores, "paper" is the published recipe on GPUs.
        output: URI of the folder with all jobs; studies in one folder share data set, tokenizers and trainings.
        manifest: Manifest of the data set of the paper's size; the other sizes draw scenes.
        models: Finished models that draw instead of trained ones, one per seed from 0; empty to train.
    """

    size: Size
    output: str
    manifest: str | None = None
    models: tuple[FinishedModel, ...] = ()

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"size: expected one of {', '.join(SIZES)}, got {self.size!r}")
        if (self.manifest is None) == (self.size == "paper"):
            raise ValueError("manifest: the size paper needs the manifest of a data set, the other sizes draw scenes")
        check_seeds(self.models)

    @property
    def is_drawn(self) -> bool:
        """Whether the pictures are drawn scenes."""
        return self.size != "paper"

    @property
    def score(self) -> str:
        """Metric that judges drawings: GenEval over drawn scenes, or GenEval."""
        return "scene_geneval.overall" if self.is_drawn else "geneval.overall"

    def data(self) -> list[JobSpec]:
        """Return the jobs that make the data set: none where it is given."""
        return [self._recipe().dataset] if self.is_drawn else []

    def tokenizer(self, seed: int = 0, *, model: dict[str, Any] | None = None, **changes: Any) -> TrainTokenizerSpec:
        """Return the training of a tokenizer.

        Args:
            seed: Seed of weights and order.
            model: Changed fields of its shape, such as ``num_bits``.
            changes: Changed fields of the spec.

        Raises:
            ValueError: The models are finished ones.
        """
        self._check_trains()
        if self.is_drawn:
            recipe = self._recipe().tokenizer
            spec = recipe.replace(loop=_shorter(recipe.loop, STEPS[self.size][0]))
        else:
            assert self.manifest is not None
            spec = tokenizer_recipe("paper-1", TokenizerInputs(manifest=self.manifest, output=self.output))
        return spec.replace(seed=seed, model=spec.model.replace(**(model or {})), **changes)

    def transformer(
        self, tokenizer: TrainTokenizerSpec, seed: int = 0, *, model: dict[str, Any] | None = None, **changes: Any
    ) -> TrainTransformerSpec:
        """Return the training of a transformer on the bits of a tokenizer.

        Args:
            seed: Seed of weights, order and all draws.
            model: Changed fields of its shape, such as ``width``.
            changes: Changed fields of the spec, such as ``self_correction``.
        """
        where = storage.join(tokenizer.folder, MODEL_FOLDER)
        if self.is_drawn:
            recipe = self._recipe()
            spec = recipe.finetune.replace(
                start_from=None,
                loop=_shorter(recipe.pretrain.loop, STEPS[self.size][1]),
                stage="pretrain",
                sampling=recipe.evaluation.sampling,
            )
            spec = spec.replace(optimizer=spec.optimizer.replace(warmup_steps=spec.loop.num_steps // 20))
        else:
            assert self.manifest is not None
            inputs = TransformerInputs(manifests=(self.manifest,), tokenizer=where, output=self.output, model="2.2B")
            spec = paper_stages(inputs)[0]
        shape = spec.model.replace(num_bits=tokenizer.model.token_bits).replace(**(model or {}))
        merged: dict[str, Any] = {"self_correction": SELF_CORRECTION} | changes
        return spec.replace(tokenizer=where, seed=seed, model=shape, **merged)

    def evaluation(
        self,
        transformer: TrainTransformerSpec,
        seed: int = 0,
        *,
        sampling: dict[str, Any] | None = None,
        drawings: bool = True,
        best_of: BestOf | None = None,
    ) -> EvaluateSpec:
        """Return the evaluation of a trained model: loss and accuracy of bits, and a score of its drawings.

        Without drawings the reconstructions of its tokenizer are measured instead.

        Args:
            seed: Number from which the seeds of the drawings follow.
            sampling: Changed fields of the sampling, such as ``guidance``.
            drawings: Whether pictures are drawn and scored.
            best_of: Search among the drawings of a prompt, of which n times as many are drawn; None for none.
        """
        number = {"mini": 8, "small": 256, "paper": 5000}[self.size]
        how = self._recipe().evaluation.sampling if self.is_drawn else SamplingConfig(guidance=4.0)
        return EvaluateSpec(
            output=self.output,
            model=storage.join(transformer.folder, MODEL_FOLDER),
            manifest=transformer.manifest,
            reconstruction=None if drawings else ReconstructionBenchmark(num_pictures=number),
            validation=ValidationBenchmark(num_pictures=number, self_correction=SELF_CORRECTION),
            samples=None,
            scenes=self._scenes(best_of) if drawings and self.is_drawn else None,
            geneval=self._geneval(best_of) if drawings and not self.is_drawn else None,
            sampling=how.replace(**(sampling or {})),
            batch_size=64 if self.is_drawn else 8,
            workers=WorkersConfig(num_workers=2 if self.is_drawn else 8, threads=1, use_gpu=not self.is_drawn),
            seed=seed,
        )

    def model(self, seed: int = 0, **changes: Any) -> tuple[list[JobSpec], TrainTransformerSpec]:
        """Return the jobs of a model with the usual tokenizer (data set, tokenizer, transformer), and the last of them.

        Args:
            seed: Seed of the transformer; all seeds share the tokenizer. Of finished models, the place.
            changes: Changes of ``transformer``.

        Raises:
            ValueError: There is no finished model for the seed, or it would have to be another one.
        """
        if self.models and not changes:
            if seed >= len(self.models):
                raise ValueError(f"seeds: {len(self.models)} finished models serve seeds below that, got {seed}")
            found = self.models[seed]
            return [found.tokenizer, found.transformer], found.transformer
        tokenizer = self.tokenizer()
        transformer = self.transformer(tokenizer, seed, **changes)
        return [*self.data(), tokenizer, transformer], transformer

    def _check_trains(self) -> None:
        if self.models:
            raise ValueError("models: this study trains models of its own, so that finished ones do not serve it")

    def _scenes(self, best_of: BestOf | None) -> SceneBenchmark:
        if self.size == "mini":
            plain = SceneBenchmark(pictures_per_prompt=1, prompts_per_task=1, num_shown=1)
        else:
            plain = SceneBenchmark()
        return plain.replace(pictures_per_prompt=plain.pictures_per_prompt * _drawn(best_of), best_of=best_of)

    def _geneval(self, best_of: BestOf | None) -> GenevalBenchmark:
        plain = GenevalBenchmark()
        return plain.replace(pictures_per_prompt=plain.pictures_per_prompt * _drawn(best_of), best_of=best_of)

    def _recipe(self) -> EndToEnd:
        return end_to_end("mini" if self.size == "mini" else "demo", source=None, output=self.output)


def _drawn(best_of: BestOf | None) -> int:
    return 1 if best_of is None else best_of.candidates


def _shorter(loop: LoopConfig, num_steps: int) -> LoopConfig:
    return loop.replace(
        num_steps=num_steps,
        log_every_steps=max(1, num_steps // 50),
        save_every_steps=max(1, -(-num_steps // 3)),
        sample_every_steps=num_steps,
    )
