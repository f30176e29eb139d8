"""Finished trainings as the models of a study that only draws: nothing is trained again."""

from __future__ import annotations

from dataclasses import dataclass

from infinity import storage
from infinity.jobs.registry import load_spec
from infinity.jobs.spec import SPEC_FILE, JobSpec, is_done
from infinity.jobs.training.base import TrainSpec
from infinity.jobs.training.tokenizer import TrainTokenizerSpec
from infinity.jobs.training.transformer import TrainTransformerSpec


@dataclass(frozen=True, slots=True)
class FinishedModel:
    """A finished transformer with the training of its tokenizer.

    Attributes:
        tokenizer: Training of the tokenizer.
        transformer: Training of the transformer.
    """

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
