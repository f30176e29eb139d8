"""What a person may set on a flow's form, and how it changes the specs of a recipe.

A box that stays empty keeps the recipe's value. Bounds are checked when a run is submitted; what depends on several
values at once is checked by the specs themselves, when the run begins.
"""

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field

from flows.forms.benchmark_forms import (
    ClipScoreForm,
    CmmdForm,
    DiversityForm,
    DpgForm,
    FdDinov2Form,
    GenevalForm,
    Hps3Form,
    HpsForm,
    ImageRewardForm,
    PickScoreForm,
)
from flows.forms.form import Count, Form, Positive, Seed, Share, box
from flows.forms.judge_forms import JudgeForm, TextRenderingForm
from flows.forms.values import StageName
from infinity import storage
from infinity.config import Config
from infinity.data.curation.filters import FilterConfig
from infinity.data.dedup.config import NearDuplicates
from infinity.data.sources.opening import fingerprint
from infinity.evaluation.drawings import SampleBenchmark
from infinity.evaluation.fid.inception_weights import InceptionWeights
from infinity.evaluation.geneval.scenes import SceneBenchmark
from infinity.evaluation.reconstruction.benchmark import ReconstructionBenchmark
from infinity.evaluation.validation import ValidationBenchmark
from infinity.jobs.dataset.build import BuildDatasetSpec
from infinity.jobs.dataset.filter_sets import FilterSet, filter_set, with_model_filters
from infinity.jobs.evaluation.spec import DRAWN_BENCHMARKS, EvaluateSpec
from infinity.jobs.training.base import TrainSpec
from infinity.jobs.training.encode import from_store
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec
from infinity.perception.language.captioner import CaptionerConfig
from infinity.settings import with_settings
from infinity.training.transformer.adapters import AdapterConfig
from infinity.transformer.number_formats.quantized import Quantization

AnyTrainSpec = TypeVar("AnyTrainSpec", bound=TrainSpec)


_OF_MODELS = ("max_text_area", "max_watermark", "max_nsfw", "min_aesthetic", "min_clip_similarity")
"""Boxes of thresholds on scores of networks."""


class DatasetForm(Form):
    """What is kept of the pictures. Empty boxes keep the run's values; a new run has its recipe's."""

    stage: ClassVar[StageName | None] = "dataset"

    num_scenes: Count | None = box("Number of drawn scenes, where no pictures are given.")
    min_side_px: Count | None = box("Shortest side that is kept, in pixels.")
    max_elongation: Annotated[float, Field(ge=1.0)] | None = box(
        "Largest longer side divided by shorter side that is kept."
    )
    min_caption_chars: Count | None = box("Shortest caption that is kept.")
    duplicates: Literal["picture", "picture_and_caption", "keep"] | None = box(
        "Of exact duplicates only the first is kept: same pixels, or same pixels and caption."
    )
    near_duplicates: bool | None = box(
        "Drop pictures that nearly repeat another one: encoded again, resized, slightly cropped."
    )
    min_pixels: Count | None = box("Smallest width times height that is kept.")
    min_contrast: Annotated[float, Field(ge=0.0)] | None = box(
        "Smallest deviation of the levels, 0 to 128; below 1 a picture is one flat colour."
    )
    min_sharpness: Annotated[float, Field(ge=0.0)] | None = box(
        "Smallest variance of the Laplacian; see the histogram of an earlier run."
    )
    max_caption_chars: Count | None = box("Longest caption that is kept.")
    min_caption_words: Count | None = box("Fewest words of a caption that is kept.")
    min_english: Share | None = box("Smallest share of English function words in a caption; 0.1 keeps sentences.")
    filter_set: FilterSet | None = box(
        "Thresholds of pretrained networks by name; 'paper': text on at most 0.1 of the picture, watermark "
        "at most 0.5, aesthetic score at least 4.75. The boxes below change single ones."
    )
    max_text_area: Share | None = box("Largest share of a picture that text covers.")
    max_watermark: Share | None = box("Largest probability of a watermark.")
    max_nsfw: Share | None = box("Largest probability of unsafe content.")
    min_aesthetic: float | None = box("Smallest aesthetic score, about 1 to 10.")
    min_clip_similarity: Annotated[float, Field(ge=-1.0, le=1.0)] | None = box(
        "Smallest cosine between the CLIP vectors of picture and caption. CLIP reads 77 tokens of mostly English text: "
        "for longer captions and other languages it says little."
    )
    captioner: str | None = box("Folder or hub name of a vision-language model that writes long captions.")
    evaluation_prompts: str | None = box(
        "URI of a prompt list whose captions must not be trained on (.jsonl, .csv, .txt)."
    )
    store_side_px: Annotated[int, Field(ge=24)] | None = box(
        "Larger pictures are stored with a shorter side of this many pixels, as JPEG of quality 95. "
        "Empty: as they came."
    )
    validation_share: Annotated[float, Field(gt=0.0, lt=1.0)] | None = box(
        "Share of the pictures that no training sees."
    )
    max_unreadable_share: Share | None = box("With a larger share of unreadable pictures the stage fails.")
    samples_per_shard: Count | None = box("Pictures in one shard.")
    name: str | None = box("Name of the data set whose next version this becomes.")
    parent: str | None = box(
        "URI of the manifest of an earlier version in the same run; shards without a change are kept."
    )
    allow_hosts: tuple[str, ...] | None = box(
        "Of an address list: hosts that may be asked although they are not public."
    )
    image_column: str | None = box("Column of the picture's file or bytes. Empty: guessed, see docs/sources.md.")
    caption_column: str | None = box("Column of the short or only caption.")
    long_caption_column: str | None = box("Column of the long caption.")
    url_column: str | None = box("Column of the picture's address on the web.")
    roots: tuple[str, ...] | None = box(
        "Further folders whose files the source may name, by links or in tables. What lies neither in them "
        "nor in the source is left out as outside_source."
    )
    seed: Seed | None = box("Seed of the split and of drawn scenes.")
    settings: dict[str, Any] | None = box(
        'Any other setting of the spec by its path, such as {"filters.captions.min_letters": 0.5}; '
        "`infinity data settings` lists them all."
    )

    def change(self, spec: BuildDatasetSpec) -> BuildDatasetSpec:
        """Return the spec with what was filled in."""
        changes = self.given("name")
        if self.parent is not None:
            changes["parent"] = storage.absolute(self.parent)
        if spec.scenes is not None:
            changes["scenes"] = self.at_paths(spec.scenes, {"seed": "seed", "num_scenes": "count"})
        elif self.num_scenes is not None:
            raise ValueError("num_scenes: counts drawn scenes, but this run has pictures of its own; leave it empty")
        changes["download"] = spec.download.replace(**self.given("allow_hosts"))
        if self.roots and spec.source is not None:
            roots = tuple(map(storage.absolute, self.roots))
            changes |= {"roots": roots, "fingerprint": fingerprint(spec.source, roots)}
        names = {"image_column": "picture", "url_column": "url", "caption_column": "caption"}
        changes["columns"] = self.at_paths(spec.columns, {**names, "long_caption_column": "long_caption"})
        if self.captioner is not None:
            changes["captioner"] = CaptionerConfig(model=self.captioner)
        spec = self.at_own_paths(spec.replace(**changes), "num_scenes", *_OF_MODELS)
        spec = with_settings(spec.replace(filters=self._filters(spec.filters)), self.settings or {})
        models = spec.filters.models if self.filter_set is None else filter_set(self.filter_set)
        return with_model_filters(spec, models.replace(**self.given(*_OF_MODELS)))

    def _filters(self, filters: FilterConfig) -> FilterConfig:
        if self.near_duplicates is not None:
            filters = filters.replace(near_duplicates=NearDuplicates() if self.near_duplicates else None)
        if self.evaluation_prompts is not None:
            filters = filters.replace(evaluation=filters.evaluation.replace(prompts=(self.evaluation_prompts,)))
        return filters


class TrainingForm(Form):
    """Length, speed and place of a training. Empty boxes keep the run's values; a new run has a recipe's."""

    num_steps: Count | None = box("Updates of the whole training.")
    batch_size: Count | None = box("Pictures of one update, over all workers.")
    num_parts: Count | None = box(
        "Parts of a batch, over all workers; more parts, less memory. At least one per worker."
    )
    learning_rate: Positive | None = box("Highest learning rate.")
    save_every_steps: Count | None = box("Steps that an interrupted training loses at most.")
    sample_every_steps: Count | None = box("Steps between two sheets of sample pictures.")
    num_workers: Count | None = box("Processes that share every batch.")
    min_workers: Count | None = box(
        "Fewest processes. With it the training begins with as many as the cluster has room for, and goes "
        "on with fewer or more as machines come and go. Empty: it waits until there is room for all."
    )
    threads: Count | None = box("CPU threads of each worker.")
    use_gpu: bool | None = box("One GPU for each worker, with bfloat16.")
    seed: Seed | None = box("Seed of weights, order of pictures and all draws.")
    settings: dict[str, Any] | None = box(
        'Any other setting of the spec by its path, such as {"share.trigger": "sks"} or further data sets under "sets".'
    )

    def change_training(self, spec: AnyTrainSpec) -> AnyTrainSpec:
        """Return the spec with what was filled in here."""
        if self.num_workers is not None and self.num_parts is None:
            parts = max(spec.loop.num_parts, self.num_workers)
            return self.model_copy(update={"num_parts": parts}).change_training(spec)
        return with_settings(self.at_own_paths(spec, "adapter_rank"), self.settings or {})


class TokenizerForm(TrainingForm):
    """How the tokenizer is trained. Empty boxes keep the run's values; a new run has its recipe's."""

    stage: ClassVar[StageName | None] = "tokenizer"

    num_bits: Annotated[int, Field(ge=1, le=64)] | None = box(
        "Bits of one position. The transformers of the run follow."
    )

    def change(self, spec: TrainTokenizerSpec) -> TrainTokenizerSpec:
        """Return the spec with what was filled in."""
        return self.change_training(spec)


class TransformerForm(TrainingForm):
    """How a transformer is trained. Empty boxes keep the run's values; a new run has its recipe's."""

    self_correction: Share | None = box(
        "Highest rate of wrong bits shown in training, so that the model learns to correct itself."
    )
    shard: bool | None = box(
        "Share out weights, averages and running means among the workers (FSDP2) instead of copying them: "
        "for models that one GPU cannot hold. The same model comes out but for rounding, as a plain checkpoint."
    )
    stored: bool | None = box(
        "Let tokenizer and text encoder look at every picture and caption once, before the training, and "
        "keep what they say; the same weights come out, sooner where they are large or there are many epochs."
    )

    def change(self, spec: TrainTransformerSpec) -> TrainTransformerSpec:
        """Return the spec with what was filled in."""
        spec = self.change_training(spec)
        if self.stored is None:
            return spec
        return from_store(spec) if self.stored else spec.replace(encoded=None)


class FinetuneForm(TransformerForm):
    """How a transformer is trained further. Empty boxes keep the run's values; a new run has its recipe's."""

    stage: ClassVar[StageName | None] = "finetune"

    adapter_rank: Annotated[int, Field(ge=1, le=1024)] | None = box(
        "Train low-rank adapters (LoRA) of this rank instead of all weights; 16 is usual. The model comes out plain."
    )
    adapter_base: Quantization | None = box(
        "Store the weights below adapters in 8 bits each (int8) or 5 (int4): QLoRA, for models that a GPU "
        "cannot hold otherwise; slower. Needs adapters."
    )

    def change(self, spec: TrainTransformerSpec) -> TrainTransformerSpec:
        """Return the spec with what was filled in."""
        if self.adapter_rank is not None:
            rank, adapters = self.adapter_rank, spec.adapters or AdapterConfig()
            spec = spec.replace(adapters=adapters.replace(rank=rank, alpha=float(rank)))
        if self.adapter_base is not None:
            if spec.adapters is None:
                raise ValueError("adapter_base: expected adapters above the quantized weights; set adapter_rank")
            spec = spec.replace(adapters=spec.adapters.replace(base=self.adapter_base))
        return TransformerForm.change(self, spec)


class PretrainForm(TransformerForm):
    """How a transformer is trained from nothing. Empty boxes keep the run's values; a new run has its recipe's."""

    stage: ClassVar[StageName | None] = "pretrain"

    depth: Count | None = box("Number of blocks.")
    width: Count | None = box("Channels; a multiple of the number of heads.")


class EvaluationForm(Form):
    """What is measured, and on how much. Empty boxes keep the run's values; a new run has its recipe's."""

    stage: ClassVar[StageName | None] = "evaluation"

    reconstruction_pictures: Count | None = box("Pictures for PSNR and SSIM.")
    validation_pictures: Count | None = box("Pictures for the loss and the accuracy of bits.")
    sample_pictures: Count | None = box("Drawings to look at.")
    scene_prompts_per_task: Count | None = box(
        "Prompts of each of the six GenEval tasks over drawn scenes, for models that learned scenes."
    )
    pictures_per_prompt: Count | None = box("Drawings of each of these prompts; GenEval has 4.")
    geneval: GenevalForm | None = box("GenEval on its official prompts, for real pictures.")
    dpg: DpgForm | None = box("DPG-Bench, for models that draw long prompts.")
    clip_score: ClipScoreForm | None = box("How well pictures fit prompts, by CLIP.")
    image_reward: ImageRewardForm | None = box("What people would give, by ImageReward.")
    hps: HpsForm | None = box("What people would prefer, by HPSv2.")
    hps3: Hps3Form | None = box("What people would prefer, by HPSv3; takes 16 GB.")
    pick_score: PickScoreForm | None = box("What people would prefer, by PickScore.")
    diversity: DiversityForm | None = box("How far pictures of one prompt differ.")
    judge: JudgeForm | None = box("Questions to a vision-language model: GenEval 2, DSG, TIFA, TIIF, VQAScore, others.")
    text_rendering: TextRenderingForm | None = box("Words in pictures, read by an OCR.")
    cmmd: CmmdForm | None = box("Distance to a reference set by CLIP's vectors.")
    fd_dinov2: FdDinov2Form | None = box("Distance to a reference set by DINOv2's vectors.")
    guidance: Positive | None = box("How strongly drawings follow their caption; 1 is not at all.")
    temperature: Positive | None = box("Divides the logits: below 1 is safer, above 1 more varied.")
    nucleus: Annotated[float, Field(gt=0.0, le=1.0)] | None = box(
        "Share of the probability of each bit that is drawn from; 1 is all."
    )
    inception_uri: str | None = box(
        "Inception weights of 2015 (path, s3:// or http URI); without them FID is not measured."
    )
    inception_sha256: str | None = box("First digits of the checksum of these weights.")
    num_workers: Count | None = box("Processes that work side by side; changes no figure.")
    use_gpu: bool | None = box("One GPU for each worker.")
    seed: Seed | None = box("Number from which the seed of every drawing follows.")

    def change(self, spec: EvaluateSpec) -> EvaluateSpec:
        """Return the spec with what was filled in."""
        parts: dict[str, tuple[type[Config], tuple[str, ...]]] = {
            "reconstruction": (ReconstructionBenchmark, ("reconstruction_pictures",)),
            "validation": (ValidationBenchmark, ("validation_pictures",)),
            "samples": (SampleBenchmark, ("sample_pictures",)),
            "scenes": (SceneBenchmark, ("pictures_per_prompt", "scene_prompts_per_task")),
            "inception": (InceptionWeights, ("inception_uri", "inception_sha256")),
        }
        changes = {part: kind() for part, (kind, boxes) in parts.items()
                   if getattr(spec, part) is None and self.given(*boxes)}  # fmt: skip
        changes |= {name: form.change(getattr(spec, name)) for name, form in self.given(*DRAWN_BENCHMARKS).items()}
        weights = {"inception_uri": "inception.uri", "inception_sha256": "inception.sha256"}
        return self.at_paths(self.at_own_paths(spec.replace(**changes)), weights)
