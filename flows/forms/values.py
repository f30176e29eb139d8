"""Values that the boxes of a form have where they are left empty: those of each recipe, for the page of the form.

A value is read from the specs of the recipe, so that no page tells a number that a run does not have.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar

from infinity.config import Config
from infinity.recipes.runs import RECIPES, EndToEnd, end_to_end

AnyConfig = TypeVar("AnyConfig", bound=Config)

StageName = Literal["dataset", "tokenizer", "pretrain", "finetune", "evaluation"]
"""Name of a stage in the plan of a run."""

_DATASET = {
    "num_scenes": "scenes.count",
    "min_side_px": "filters.min_side_px",
    "max_elongation": "filters.max_elongation",
    "min_caption_chars": "filters.min_caption_chars",
    "duplicates": "filters.duplicates",
    "min_pixels": "filters.min_pixels",
    "min_contrast": "filters.min_contrast",
    "min_sharpness": "filters.min_sharpness",
    "max_caption_chars": "filters.captions.max_chars",
    "min_caption_words": "filters.captions.min_words",
    "min_english": "filters.captions.min_english",
    "max_text_area": "filters.models.max_text_area",
    "max_watermark": "filters.models.max_watermark",
    "max_nsfw": "filters.models.max_nsfw",
    "min_aesthetic": "filters.models.min_aesthetic",
    "min_clip_similarity": "filters.models.min_clip_similarity",
    "store_side_px": "storing.side_px",
    "validation_share": "validation_share",
    "max_unreadable_share": "max_unreadable_share",
    "samples_per_shard": "samples_per_shard",
    "seed": "seed",
}
_WORKERS = {"num_workers": "workers.num_workers", "use_gpu": "workers.use_gpu"}
_TRAINING = {
    "num_steps": "loop.num_steps",
    "batch_size": "loop.batch_size",
    "num_parts": "loop.num_parts",
    "learning_rate": "optimizer.learning_rate",
    "save_every_steps": "loop.save_every_steps",
    "sample_every_steps": "loop.sample_every_steps",
    **_WORKERS,
    "min_workers": "workers.min_workers",
    "threads": "workers.threads",
    "seed": "seed",
}
_TRANSFORMER = {**_TRAINING, "self_correction": "self_correction", "shard": "workers.shard"}
PATHS: Mapping[StageName, Mapping[str, str]] = {
    "dataset": _DATASET,
    "tokenizer": {**_TRAINING, "num_bits": "model.num_bits"},
    "pretrain": {**_TRANSFORMER, "depth": "model.depth", "width": "model.width"},
    "finetune": {**_TRANSFORMER, "adapter_rank": "adapters.rank"},
    "evaluation": {
        "reconstruction_pictures": "reconstruction.num_pictures",
        "validation_pictures": "validation.num_pictures",
        "sample_pictures": "samples.num_pictures",
        "scene_prompts_per_task": "scenes.prompts_per_task",
        "pictures_per_prompt": "scenes.pictures_per_prompt",
        "guidance": "sampling.guidance",
        "temperature": "sampling.temperature",
        "nucleus": "sampling.nucleus",
        **_WORKERS,
        "seed": "seed",
    },
}
"""Path of a box's value in the spec of its stage. Boxes that choose a file or a network are not here."""


def value_at(spec: object, path: str) -> Any:
    """Return the value at a path of a spec; None where a part of it is not set.

    Args:
        spec: Spec of a stage.
        path: Names of fields, such as ``loop.num_steps``.
    """
    for name in path.split("."):
        if spec is None:
            return None
        spec = getattr(spec, name)
    return spec


def replaced(spec: AnyConfig, changes: Mapping[str, Any]) -> AnyConfig:
    """Return a config with other values at paths; the values of one part are changed together.

    Args:
        spec: Spec of a stage, or a part of one.
        changes: New values by path, such as ``loop.num_steps``.
    """
    own: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        name, _, rest = path.partition(".")
        if rest:
            parts.setdefault(name, {})[rest] = value
        else:
            own[name] = value
    return spec.replace(**own, **{name: replaced(getattr(spec, name), inner) for name, inner in parts.items()})


def empty_means(stage: StageName, box: str) -> str:
    """Return a sentence about the value of a box that stays empty in a new run; empty where no recipe sets one.

    Args:
        stage: Stage of the form.
        box: Name of the box.
    """
    path = PATHS[stage].get(box)
    if path is None:
        return ""
    values = {recipe: value_at(getattr(plan, stage), path) for recipe, plan in _plans().items()}
    if all(value is None for value in values.values()):
        return "Empty: no value."
    if len(set(values.values())) == 1:
        return f"Empty: {_shown(next(iter(values.values())))}."
    return f"Empty: {', '.join(f'{_shown(value)} ({recipe})' for recipe, value in values.items())}."


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)


@cache
def _plans() -> dict[str, EndToEnd]:
    """Return the plan of a run of drawn scenes by each recipe."""
    return {recipe: end_to_end(recipe, source=None, output="/runs/new") for recipe in RECIPES}
