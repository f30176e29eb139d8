"""Finished trainings as the models of a study that only draws: nothing is trained again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.jobs.registry import load_spec
from infinity.jobs.spec import SPEC_FILE, JobSpec, is_done
from infinity.jobs.training.base import TrainSpec
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec

_OF_A_RUN = {"output", "seed", "manifest", "tokenizer", "start_from", "encoded", "workers", "reading"}
"""Fields in which the trainings of one recipe may differ; their data sets must have one name."""


@dataclass(frozen=True, slots=True)
class FinishedModel:
    """A finished transformer with the training of its tokenizer."""

    tokenizer: TrainTokenizerSpec
    transformer: TrainTransformerSpec


def finished_model(folder: str) -> FinishedModel:
    """Return the model of a finished training, or the last one of a finished run.

    Args:
        folder: URI of the folder of a training, with its ``spec.json``, or of a run with such folders.

    Raises:
        ValueError: There is no finished transformer, or there are several that none of the others starts from, or its
            tokenizer's training is not there.
        StorageError: A file cannot be read.
    """
    if storage.exists(storage.join(folder, SPEC_FILE)):
        found = [_finished(folder)]
    else:
        trainings = [uri for uri in storage.list_files(folder) if _is_training(uri)]
        found = _last([_finished(storage.parent(uri)) for uri in trainings])
    transformers = [spec for spec in found if isinstance(spec, TrainTransformerSpec)]
    if len(transformers) != 1:
        many = f"several: {', '.join(spec.folder for spec in transformers)}" if transformers else "none"
        raise ValueError(
            f"{folder}: expected the folder of one finished transformer, or of a run that has one, found {many}"
        )
    (transformer,) = transformers
    tokenizer = _finished(storage.parent(transformer.tokenizer))
    if not isinstance(tokenizer, TrainTokenizerSpec):
        raise ValueError(f"{transformer.folder}: the training of its tokenizer is not at {transformer.tokenizer}")
    return FinishedModel(tokenizer, transformer)


def check_seeds(models: Sequence[FinishedModel]) -> None:
    """Refuse models that are not trainings of one recipe with different seeds, which an interval over seeds assumes.

    Raises:
        ValueError: A model is given twice, or two differ in more than seeds and places.
    """
    names = [storage.name(model.transformer.folder) for model in models]
    for number, (model, name) in enumerate(zip(models, names, strict=True)):
        if name in names[:number]:
            raise ValueError(
                f"models: {name} is given twice; expected a training with a seed of its own per seed of the study"
            )
        first, other = _recipe(models[0]), _recipe(model)
        if differing := [field for field in first | other if first.get(field) != other.get(field)]:
            raise ValueError(
                f"models: expected trainings of one recipe, but {model.transformer.folder} and "
                f"{models[0].transformer.folder} differ in {', '.join(differing)}; run the study once per recipe"
            )


def _recipe(model: FinishedModel) -> dict[str, Any]:
    """Return what the trainings of a model's recipe have in common, by names for messages."""
    found = {"the data set": storage.name(storage.parent(model.transformer.manifest))}
    for spec in (model.tokenizer, model.transformer):
        found |= {f"{spec.kind}.{name}": value for name, value in spec.identity().items() if name not in _OF_A_RUN}
    return found


def _is_training(uri: str) -> bool:
    """Return whether a file is the spec of a transformer's training, by the name of its folder."""
    folder = storage.name(storage.parent(uri))
    return storage.name(uri) == SPEC_FILE and folder.startswith(f"{TrainTransformerSpec.kind}-")


def _finished(folder: str) -> JobSpec | None:
    """Return the spec of a finished training at its present place; None where there is none."""
    uri = storage.join(folder, SPEC_FILE)
    spec = load_spec(uri) if storage.exists(uri) else None
    if not isinstance(spec, TrainSpec):
        return None
    spec = spec.replace(output=storage.parent(folder))
    return spec if spec.folder == folder and is_done(spec) else None


def _last(found: list[JobSpec | None]) -> list[JobSpec | None]:
    """Return the transformers that no other one of them starts from."""
    known = [spec for spec in found if isinstance(spec, TrainTransformerSpec)]
    starts = {storage.name(storage.parent(spec.start_from)) for spec in known if spec.start_from}
    return [spec for spec in known if storage.name(spec.folder) not in starts]
