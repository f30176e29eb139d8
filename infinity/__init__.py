"""Infinity: bitwise autoregressive text-to-image models (arXiv:2412.04431), from pictures to a scored model.

The names below are the public interface; ``from infinity import InfinityPipeline`` imports what it needs and no more.
``docs/architecture.md`` says where everything else lives.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infinity.data.dataset.manifest import Manifest
    from infinity.data.loading.other_trainers import as_webdataset
    from infinity.generation.drawing.results import PipelineResult
    from infinity.generation.infinity_pipeline import InfinityPipeline
    from infinity.generation.sampling import SamplingConfig
    from infinity.jobs.dataset.spec import BuildDatasetSpec
    from infinity.jobs.evaluation.spec import EvaluateSpec
    from infinity.jobs.registry import load_spec, run_spec
    from infinity.jobs.training.tokenizer import TrainTokenizerSpec
    from infinity.jobs.training.transformer import TrainTransformerSpec
    from infinity.tokenizer import Tokenizer, load_tokenizer
    from infinity.transformer import Transformer

from infinity.version import __version__ as __version__

_HOMES = {
    "InfinityPipeline": "infinity.generation.infinity_pipeline",
    "PipelineResult": "infinity.generation.drawing.results",
    "SamplingConfig": "infinity.generation.sampling",
    "Tokenizer": "infinity.tokenizer",
    "load_tokenizer": "infinity.tokenizer",
    "Transformer": "infinity.transformer",
    "Manifest": "infinity.data.dataset.manifest",
    "as_webdataset": "infinity.data.loading.other_trainers",
    "BuildDatasetSpec": "infinity.jobs.dataset.spec",
    "TrainTokenizerSpec": "infinity.jobs.training.tokenizer",
    "TrainTransformerSpec": "infinity.jobs.training.transformer",
    "EvaluateSpec": "infinity.jobs.evaluation.spec",
    "load_spec": "infinity.jobs.registry",
    "run_spec": "infinity.jobs.registry",
}

__all__ = [
    "BuildDatasetSpec",
    "EvaluateSpec",
    "InfinityPipeline",
    "Manifest",
    "PipelineResult",
    "SamplingConfig",
    "Tokenizer",
    "TrainTokenizerSpec",
    "TrainTransformerSpec",
    "Transformer",
    "as_webdataset",
    "load_spec",
    "load_tokenizer",
    "run_spec",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: torch and Ray take seconds that ``import infinity`` need not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
