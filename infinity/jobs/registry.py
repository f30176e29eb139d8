"""Which job does a spec ask for: from the kind in a spec file to the module that runs it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infinity import storage
from infinity.config import ConfigError, parse_json
from infinity.jobs.progress import ProgressSink, silent
from infinity.jobs.spec import JobReport, JobSpec


@dataclass(frozen=True, slots=True)
class Job:
    """A kind of job: the types of what goes in and comes out, and the function between them."""

    spec_type: type[JobSpec]
    report_type: type[JobReport]
    run: Callable[..., JobReport]


_NAMES = {
    "download": ("dataset.download", "DownloadSpec", "DownloadReport"),
    "dataset": ("dataset.build", "BuildDatasetSpec", "BuildDatasetReport"),
    "tokenizer": ("training.tokenizer", "TrainTokenizerSpec", "TrainReport"),
    "encoded": ("training.encode", "EncodeSpec", "EncodeReport"),
    "transformer": ("training.transformer", "TrainTransformerSpec", "TrainReport"),
    "evaluation": ("evaluation.evaluate", "EvaluateSpec", "EvaluateReport"),
    "traced": ("estimate.traced", "TracedSpec", "TracedReport"),
    "sweep": ("evaluation.sweep", "SweepSpec", "SweepReport"),
    "savings": ("evaluation.savings", "SavingsSpec", "SavingsReport"),
}

KINDS = tuple(_NAMES)
"""Every kind of job, in the order in which a pipeline runs them."""


def job_of(kind: str) -> Job:
    """Return the job of this kind; its module is imported only now, since some are heavy.

    Raises:
        ConfigError: There is no such kind.
    """
    if kind not in _NAMES:
        raise ConfigError(f"unknown kind of job {kind!r}; expected one of {', '.join(KINDS)}")
    module_name, spec_name, report_name = _NAMES[kind]
    module = importlib.import_module(f"infinity.jobs.{module_name}")
    return Job(getattr(module, spec_name), getattr(module, report_name), module.run)


def parse_spec(data: Any, *, where: str = "spec") -> JobSpec:
    """Return a spec from what a spec file holds: ``{"kind": ..., "spec": {...}}``.

    Raises:
        ConfigError: The data have another form, an unknown kind, or fields that the kind does not have.
    """
    if not isinstance(data, Mapping) or set(data) != {"kind", "spec"}:
        raise ConfigError(f"{where}: expected an object with exactly the keys 'kind' and 'spec'")
    try:
        job = job_of(f"{data['kind']!s:.80}")
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    return job.spec_type.from_json(data["spec"], where=f"{where}.spec")


MAX_SPEC_BYTES = 64 * 2**20
"""Size of the largest spec file; those of stages have some thousand bytes, and prompts may be in them."""


def load_spec(uri: str) -> JobSpec:
    """Return the spec in a file, for example the ``spec.json`` of an earlier job.

    Raises:
        ConfigError: The file is no spec.
        StorageError: There is no such file.
    """
    text = storage.read_bytes(uri, length=MAX_SPEC_BYTES + 1)
    if len(text) > MAX_SPEC_BYTES:
        raise ConfigError(f"{uri}: expected a spec of at most {MAX_SPEC_BYTES:,} bytes, found a larger file")
    return parse_spec(parse_json(text, where=uri), where=uri)


def run_spec(spec: JobSpec, *, progress: ProgressSink = silent) -> JobReport:
    """Run the job that the spec asks for; a finished one is not run again."""
    return job_of(spec.kind).run(spec, progress=progress)
