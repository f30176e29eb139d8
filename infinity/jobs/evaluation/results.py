"""A finished evaluation, read back: scores, values per prompt, and where the pictures lie."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from infinity import storage
from infinity.checkpoint import MARKER_FILE
from infinity.config import digest_of, parse_json
from infinity.evaluation.contents import MANIFEST, is_named_by_content
from infinity.evaluation.promotion.gate import ScoredModel
from infinity.evaluation.promotion.repeated_prompts import one_item_per_prompt
from infinity.evaluation.score import benchmark_of, join_notes
from infinity.jobs.evaluation.origins import is_of, origin_of
from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.jobs.registry import parse_spec
from infinity.jobs.spec import DAMAGED_REPORT, REPORT_FILE, SPEC_FILE
from infinity.storage.json_files import read_config
from infinity.storage.lines import json_objects

TRAINED_FOLDER = "model"
FOLDER_PREFIX = f"{EvaluateSpec.kind}-"
_NOT_DRAWN = ("reconstruction", "validation", "rfid", "rkid")
"""First parts of the names of metrics of the tokenizer and of the loss, which no drawing changes."""


class EvaluationNotFoundError(ValueError):
    """There is no finished evaluation at the named place, or more than one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnPrompt:
    """The pictures of one prompt.

    Attributes:
        benchmark: First part of the names of the metrics over these pictures.
        id: Id of the prompt within the benchmark.
        drawn: The text that was drawn: the prompt or its rewriting.
        seeds: Seeds of the pictures; empty where they were drawn elsewhere.
        pictures: URIs of the pictures.
    """

    benchmark: str
    id: str
    prompt: str
    drawn: str
    seeds: tuple[int, ...]
    pictures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A finished evaluation: its folder, spec and report."""

    folder: str
    spec: EvaluateSpec
    report: EvaluateReport

    @property
    def title(self) -> str:
        """Name in words of the model that drew: run and job of ours, or the name that was given to another one."""
        return model_title(self.spec.model) if self.spec.model else self.spec.pictures_of

    @property
    def repeat(self) -> str:
        """Command that measures the same again."""
        return f"infinity run {shlex.quote(storage.join(self.folder, SPEC_FILE))} --output <another folder>"

    def sampling(self, metric: str = "") -> str:
        """Return how the model drew the pictures of a metric, in words: guidance, temperature, top-p, size, seed.

        Empty where it drew none: pictures of others, and what is measured on the pictures of a data set.
        """
        spec, size = self.spec, self.report.size_px
        if not spec.model or self._is_foreign(metric) or benchmark_of(metric) in _NOT_DRAWN:
            return ""
        forms = [f"{name} in {form}" for name, form in (("weights", spec.quantize), ("cache", spec.cache)) if form]
        pixels = [] if size is None else [f"{size[0]} x {size[1]} px"]
        return ", ".join([spec.sampling.describe(), *forms, *pixels, f"seed {spec.seed}"])

    @property
    def made(self) -> str:
        """How the model drew, and the command that measures the same again, in words."""
        drawn = self.sampling()
        return join_notes(f"drawn with {drawn}" if drawn else "", f"again: {self.repeat}")

    @property
    def measured(self) -> ScoredModel:
        """Scores and item values, as the gate compares them; a prompt that a list repeats is one item.

        Raises:
            ValueError: The file of values per item is damaged.
        """
        prompts = {(drawn.benchmark, drawn.id): drawn.prompt for drawn in self.drawings()}
        items = one_item_per_prompt(self.items(), prompts)
        return ScoredModel(
            model=self.spec.model or f"pictures of {self.spec.pictures_of}",
            digest=self.report.model_digest,
            setting=setting(self.spec, self.report.inputs),
            scores={score.metric: score for score in self.report.scores},
            items={metric: values for metric, values in items.items() if not self._is_foreign(metric)},
        )

    def label(self, metric: str, model: str) -> str:
        """Return whose pictures a metric is about, in words: the model's, unless they were drawn elsewhere."""
        return foreign_origin(metric, self.spec.to_json(), self.report.origins) or model

    def _is_foreign(self, metric: str) -> bool:
        """Return whether the metric says nothing about the named model."""
        return bool(self.spec.model) and bool(foreign_origin(metric, self.spec.to_json(), self.report.origins))

    def items(self) -> dict[str, dict[str, float | None]]:
        """Return the values of all items by metric; empty where no metric has any."""
        values: dict[str, dict[str, float | None]] = {}
        for where, line in _lines(self.report.items):
            if set(line) != {"metric", "id", "value"}:
                raise ValueError(f"{where}: expected metric, id and value, got {', '.join(line)}")
            by_id = values.setdefault(str(line["metric"]), {})
            if str(line["id"]) in by_id:
                raise ValueError(f"{where}: the item {line['id']!r} of {line['metric']} is there twice")
            by_id[str(line["id"])] = None if line["value"] is None else float(line["value"])
        return values

    def drawings(self) -> tuple[DrawnPrompt, ...]:
        """Return the pictures of every prompt, in the order of the benchmarks; empty where nothing was drawn."""
        return tuple(
            DrawnPrompt(
                benchmark=str(line["benchmark"]),
                id=str(line["id"]),
                prompt=str(line["prompt"]),
                drawn=str(line.get("drawn") or line["prompt"]),
                seeds=tuple(int(seed) for seed in line.get("seeds") or ()),
                pictures=tuple(str(uri) for uri in line["pictures"]),
            )
            for _, line in _lines(self.report.drawings)
        )


def model_title(model: str) -> str:
    """Return a model's name in words: run and job of a folder ``<run>/<job>/model``, else the folder's own name.

    Example:
        >>> model_title("s3://bucket/runs/demo/transformer-0123456789abcdef/model")
        'demo, transformer-0123456789abcdef'
    """
    place = model.rstrip("/")
    job = storage.parent(place)
    if storage.name(place) != TRAINED_FOLDER:
        return storage.name(place)
    return ", ".join(filter(None, (storage.name(storage.parent(job)), storage.name(job)))) or TRAINED_FOLDER


def foreign_origin(metric: str, settings: Mapping[str, Any], origins: Mapping[str, str]) -> str | None:
    """Return whose pictures a metric is about, if they were drawn elsewhere; also for reports of earlier versions.

    Args:
        metric: Name of a metric, or another name that begins with the benchmark's.
        settings: Spec of the evaluation, as JSON.
    """
    if (origin := origin_of(metric, origins)) is not None:
        return origin
    for name, part in settings.items():
        pictures = part.get("pictures") if isinstance(part, Mapping) else None
        if pictures and is_of(metric, name):
            return f"pictures drawn elsewhere: {storage.name(str(pictures.get('uri', '')).rstrip('/'))}"
    return None


def setting(spec: EvaluateSpec, inputs: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return a digest of all that an evaluation depends on besides the model: settings, and contents of inputs."""
    apart = spec.elsewhere | {"model", "inputs", "pictures_of"}
    found: dict[str, Any] = {name: value for name, value in spec.to_json().items() if name not in apart}
    named = spec.manifest is not None and is_named_by_content(spec.manifest)
    found |= {
        f"content of {name}": digest
        for name, digest in inputs.items()
        if not (name == MANIFEST and named) and ".pictures." not in name
    }
    if not spec.model:
        found = {name: _without_pictures(value) for name, value in found.items()}
    return digest_of(found)


def _without_pictures(part: Any) -> Any:
    """Return a benchmark's settings without the pictures that it scores."""
    return {name: value for name, value in part.items() if name != "pictures"} if isinstance(part, dict) else part


def load(folder: str) -> Evaluated:
    """Return the finished evaluation in a folder.

    Raises:
        EvaluationNotFoundError: There is none.
        ConfigError: A file is damaged or of another version.
    """
    spec_uri, report_uri = (storage.join(folder, name) for name in (SPEC_FILE, REPORT_FILE))
    if not storage.exists(report_uri) or not storage.exists(spec_uri):
        raise EvaluationNotFoundError(f"{folder}: expected a finished evaluation ({SPEC_FILE} and {REPORT_FILE})")
    spec = parse_spec(parse_json(storage.read_text(spec_uri), where=spec_uri), where=spec_uri)
    if not isinstance(spec, EvaluateSpec):
        raise EvaluationNotFoundError(f"{folder}: expected an evaluation, found a job of kind {spec.kind!r}")
    report = read_config(report_uri, EvaluateReport, remedy=DAMAGED_REPORT)
    return Evaluated(folder, spec, report)


def below(folder: str) -> tuple[str, ...]:
    """Return the folders of the finished evaluations directly below a folder, such as a run's."""
    if (place := storage.local_path(folder)) is not None:  # deeper folders, perhaps a whole disk, are not listed
        names = sorted(path.parent.name for path in place.glob(f"{FOLDER_PREFIX}*/{REPORT_FILE}"))
        return tuple(storage.join(folder, name) for name in names)
    start = len(folder.rstrip("/")) + 1
    paths = (uri[start:].split("/") for uri in storage.list_files(folder))
    return tuple(
        storage.join(folder, path[0])
        for path in paths
        if len(path) == 2 and path[0].startswith(FOLDER_PREFIX) and path[1] == REPORT_FILE
    )


def find(uri: str) -> Evaluated:
    """Return the one evaluation that a URI stands for.

    Args:
        uri: Folder of an evaluation, of a run with one evaluation, or of a model inside a run that holds its
            evaluation.

    Raises:
        EvaluationNotFoundError: There is none, or more than one, so that the evaluation's own folder must be named.
    """
    if storage.exists(storage.join(uri, REPORT_FILE)) and storage.name(uri).startswith(FOLDER_PREFIX):
        return load(uri)
    found = below(uri)
    if not found and storage.exists(storage.join(uri, MARKER_FILE)):
        # <run>/transformer-<digest>/model
        inside = below(storage.parent(storage.parent(uri)))
        found = tuple(folder for folder in inside if _same_place(load(folder).spec.model, uri))
    if len(found) != 1:
        listed = "".join(f"\n  {folder}" for folder in found)
        raise EvaluationNotFoundError(
            f"{uri}: expected the folder of one finished evaluation, of a run or of a model in it, found {len(found)}; "
            + (f"name one of these:{listed}" if found else "run `infinity evaluate` first")
        )
    return load(found[0])


def _same_place(one: str, other: str) -> bool:
    return storage.absolute(one).rstrip("/") == storage.absolute(other).rstrip("/")


def _lines(uri: str | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the objects of a JSON lines file, each with its place; nothing for no file."""
    return iter(()) if uri is None else json_objects(storage.read_bytes(uri), uri)
