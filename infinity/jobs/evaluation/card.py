"""Collect a model's records for its card: its folder, the trainings that led to it, their data, its evaluations.

Records are read as plain JSON, so that a card can still be written after specs have changed their fields.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from infinity import storage
from infinity.checkpoint import MARKER_FILE, read_kind_and_config
from infinity.config import Config, ConfigError
from infinity.data.dataset.manifest import Manifest
from infinity.evaluation.score import Score
from infinity.generation.files.model_folder import model_folder
from infinity.generation.pipeline import KIND, ModelConfig
from infinity.generation.sampling import SamplingConfig
from infinity.jobs.evaluation.results import below, foreign_origin
from infinity.jobs.spec import REPORT_FILE, SPEC_FILE
from infinity.reporting.scores.card import DataFacts, EvaluationFacts, ModelCard, TrainingFacts
from infinity.reporting.summary import Sheet
from infinity.storage.json_files import read_object

MAX_SHEETS = 8
_RESTORE = "restore the file, or start the same job again"


class CardError(ValueError):
    """A checkpoint that is not a text-to-image model."""


def gather(uri: str, *, licence: str = "", use: str = "") -> ModelCard:
    """Return all that the records beside a model say.

    Args:
        uri: A model folder, or the folder of a run.
        licence: Licence of the weights, as their maker states it.
        use: Intended use, as their maker states it.

    Raises:
        ModelNotFoundError: There is no model.
        CardError: The checkpoint is of another kind.
        CheckpointError: The checkpoint is damaged.
        ConfigError: A record cannot be read.
    """
    model = model_folder(uri)
    kind, config = read_kind_and_config(model)
    if kind != KIND:
        raise CardError(f"{model}: expected a checkpoint of kind {KIND!r}, found {kind!r}")
    trainings = tuple(_trainings(model))
    gaps = [] if trainings else ["No record of its training lies beside it."]
    data = tuple(_data(trainings, gaps))
    evaluations = tuple(_evaluations(model))
    return ModelCard(
        title=_title(model),
        model=model,
        digest=storage.read_text(storage.join(model, MARKER_FILE)).strip(),
        facts=_facts(ModelConfig.from_json(config, where=model), trainings),
        config=config,
        data=data,
        trainings=trainings,
        evaluations=evaluations,
        gaps=tuple(gaps),
        licence=licence,
        use=use,
    )


def _title(model: str) -> str:
    """Return run and job of a model folder ``<run>/<job>/model``; elsewhere the folder's own name."""
    job = storage.parent(model)
    if storage.exists(storage.join(job, SPEC_FILE)):
        return f"{storage.name(storage.parent(job))}, {storage.name(job)}"
    return storage.name(model)


def _facts(config: ModelConfig, trainings: tuple[TrainingFacts, ...]) -> dict[str, str]:
    shape = config.transformer
    facts = {
        "transformer": f"{shape.depth} blocks, width {shape.width}, {shape.num_heads} heads",
        "bits of a token": str(shape.num_bits),
        "text encoder": json.dumps(config.text.to_json(), sort_keys=True),
        "resolution": json.dumps(config.resolution.to_json(), sort_keys=True),
        "digest of its tokenizer": config.tokenizer_digest,
    }
    if trainings:
        facts["parameters of the transformer"] = f"{trainings[-1].num_parameters:,}"
    return facts


def _trainings(model: str) -> Iterator[TrainingFacts]:
    """Yield the trainings of the tokenizer and the transformer, the earliest first, as far as records exist."""
    chain: list[TrainingFacts] = []
    seen: set[str] = set()
    waiting = [model]
    while waiting:
        folder = storage.parent(waiting.pop())
        spec_uri, report_uri = (storage.join(folder, name) for name in (SPEC_FILE, REPORT_FILE))
        if folder in seen or not (storage.exists(spec_uri) and storage.exists(report_uri)):
            continue
        seen.add(folder)
        spec, report = _object(spec_uri), _object(report_uri)
        settings, training = spec.get("spec", {}), report.get("training")
        if not isinstance(training, Mapping):
            continue
        with _of_another_shape(report_uri):
            chain.append(_training(folder, settings, training))
        with _of_another_shape(spec_uri):
            waiting += [settings[name] for name in ("tokenizer", "start_from") if isinstance(settings.get(name), str)]
    # The chain leads from the model back to the start of its training, and at last to the tokenizer.
    yield from reversed(chain)


def _training(folder: str, settings: Mapping[str, Any], training: Mapping[str, Any]) -> TrainingFacts:
    return TrainingFacts(
        title=str(training["title"]),
        folder=folder,
        num_steps=int(training["num_steps"]),
        num_parameters=int(training["num_parameters"]),
        final={str(name): float(value) for name, value in sorted(training["final"].items())},
        settings=settings,
    )


def _data(trainings: tuple[TrainingFacts, ...], gaps: list[str]) -> Iterator[DataFacts]:
    """Yield every data set that a training names, once; note those that no longer exist in ``gaps``."""
    for uri in dict.fromkeys(str(training.settings.get("manifest", "")) for training in trainings):
        if not uri or not storage.exists(uri):
            gaps.append(f"The manifest of its data is not there any more: {uri or 'no record names it'}.")
            continue
        manifest = Manifest.load(uri)
        head = manifest.head
        splits = Counter(manifest.column("split").to_pylist())
        yield DataFacts(
            uri=uri,
            sha256=storage.sha256(uri),
            counts=head.counts,
            splits=dict(sorted(splits.items())),
            settings=_settings(head),
        )


def _settings(head: Config) -> Mapping[str, Any]:
    """Return the head without counts and lists of shards, which are data and not settings."""
    return {name: value for name, value in head.to_json().items() if name not in ("counts", "shards")}


def _evaluations(model: str) -> Iterator[EvaluationFacts]:
    """Yield the evaluations in the model's run that scored the present checkpoint."""
    digest = storage.read_text(storage.join(model, MARKER_FILE)).strip()
    for folder in below(storage.parent(storage.parent(model))):
        spec, report_uri = _object(storage.join(folder, SPEC_FILE)), storage.join(folder, REPORT_FILE)
        report = _object(report_uri)
        if report.get("model_digest") != digest:
            continue
        settings, origins = spec.get("spec", {}), report.get("origins", {})
        with _of_another_shape(report_uri):
            scores = [Score.from_json(score, where=report_uri) for score in report.get("scores", ())]
            pictures = report.get("pictures", {})
            sheets = {name: Sheet.from_json(sheet, where=report_uri) for name, sheet in pictures.items()}
            # Scores of pictures that another model drew are not scores of this model.
            own = tuple(score for score in scores if foreign_origin(score.metric, settings, origins) is None)
            shown = [sheet for name, sheet in sheets.items() if foreign_origin(name, settings, origins) is None]
        if own:
            yield EvaluationFacts(
                folder=folder, scores=own, sheets=tuple(shown[:MAX_SHEETS]), settings=settings,
                made=_made(folder, settings, report.get("size_px")),
            )  # fmt: skip


def _made(folder: str, settings: Mapping[str, Any], size: Any) -> str:
    """Return how an evaluation drew, as far as this version reads its settings, and the command that repeats it."""
    again = f"again: infinity run {shlex.quote(storage.join(folder, SPEC_FILE))} --output <another folder>"
    pixels = f", {size[0]} x {size[1]} px" if isinstance(size, list) and len(size) == 2 else ""
    try:
        sampling = SamplingConfig.from_json(settings.get("sampling", {}), where=folder).describe()
    except ConfigError:
        return again
    return f"drawn with {sampling}{pixels}, seed {settings.get('seed', 0)}; {again}"


def _object(uri: str) -> dict[str, Any]:
    return read_object(uri, remedy=_RESTORE)


@contextmanager
def _of_another_shape(uri: str) -> Iterator[None]:
    """Name the record whose values have other names or types than those that are read of it."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{uri}: expected the record of a job, found another one ({error!r:.80}); {_RESTORE}"
        ) from error
