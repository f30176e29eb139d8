"""Score models in parallel: reconstruction, prediction of bits, FID, benchmarks over prompts (decisions 4 and 21)."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain

from infinity import storage
from infinity.checkpoint import MARKER_FILE, CheckpointError, read_kind_and_config
from infinity.data.dataset.manifest import Manifest
from infinity.evaluation.fid.inception_weights import load_inception
from infinity.evaluation.prompts.rewriting import RewriteFile
from infinity.generation.pipeline import KIND, TOKENIZER_FOLDER, TOKENIZER_KIND, ModelConfig
from infinity.jobs.cluster.connection import connect
from infinity.jobs.evaluation.files import write_items, write_lines, write_records, write_sheets
from infinity.jobs.evaluation.origins import with_origin, with_split
from infinity.jobs.evaluation.parts import worker_pool
from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.jobs.evaluation.steps import Evaluation, ModelResults, compute
from infinity.jobs.ownership import owned
from infinity.jobs.progress import Progress, ProgressSink, section, silent
from infinity.jobs.spec import begin, commit, is_done, load_report
from infinity.perception.lpips import load_lpips
from infinity.tokenizer import TokenizerConfig

__all__ = ["EvaluateReport", "EvaluateSpec", "check_model", "run", "run_all"]  # the registry finds all of a job here

DRAWINGS_FILE, SCORES_FILE, STORE_FOLDER = "drawings.jsonl", "scores.json", "store"


def run(spec: EvaluateSpec, *, progress: ProgressSink = silent) -> EvaluateReport:
    """Score one model; a finished spec is not computed twice.

    Raises:
        ValueError: The model or the data set cannot be used, for example because the validation split is empty.
        StorageError: A file cannot be read or written.
        WorkersError: The cluster has no room, or workers die.
    """
    (report,) = run_all([spec], progress=progress)
    return report


def run_all(specs: Sequence[EvaluateSpec], *, progress: ProgressSink = silent) -> list[EvaluateReport]:
    """Score several models together: workers load each scorer once and draw each shared picture once.

    Args:
        specs: Evaluations; finished ones are read. The first unfinished one names the workers' resources.
        progress: Called with the progress of the whole.

    Raises:
        ValueError: A model or data set cannot be used; found before any worker starts.
        StorageError: A file cannot be read or written.
        WorkersError: The cluster has no room, or workers die.
    """
    specs = [spec.located() for spec in specs]
    waiting = {storage.absolute(spec.folder): spec for spec in specs if not is_done(spec)}
    with ExitStack() as tenures:
        for _, spec in sorted(waiting.items()):  # in one order everywhere, so that no two processes wait for each other
            progress = tenures.enter_context(owned(spec, progress)).progress
        if left := [spec for spec in waiting.values() if not is_done(spec)]:
            _run_all(left, progress)
    return [load_report(spec, EvaluateReport) for spec in specs]


def _run_all(specs: Sequence[EvaluateSpec], progress: ProgressSink) -> None:
    """Score models whose folders this process owns."""
    started = time.monotonic()
    progress(Progress(0.0, "checking models and data sets"))
    evaluations = [_prepare(spec) for spec in specs]
    folders = [begin(spec) for spec in specs]
    with connect():
        progress(Progress(0.01, "starting workers"))
        with worker_pool(specs[0].workers) as workers:
            findings = compute(evaluations, workers, section(progress, 0.02, 0.98))
        # Still connected: large arrays in the states lie in Ray's shared memory.
        for spec, evaluation, folder, found in zip(specs, evaluations, folders, findings, strict=True):
            _finish(spec, evaluation, folder, found, round(time.monotonic() - started, 2))
    progress(Progress(1.0, "evaluated"))


def _prepare(spec: EvaluateSpec) -> Evaluation:
    """Check and read everything that needs no worker."""
    target = replace(
        spec.target,
        model_digest=check_model(spec.model) if spec.model else "",
        store=spec.store or storage.join(spec.output, STORE_FOLDER),
    )
    prompt_benchmarks = list(spec.prompt_benchmarks())
    items = [benchmark.items() for _, benchmark in prompt_benchmarks]
    for (_, benchmark), prompts in zip(prompt_benchmarks, items, strict=True):
        benchmark.judge_settings()  # reads the weights' digests, so that missing ones are found before hours of drawing
        if isinstance(benchmark.rewriter, RewriteFile) and benchmark.pictures is None:
            benchmark.rewriter.rewrite([item.prompt for item in prompts])  # fails if a rewriting is missing
    check_networks(spec)
    data_benchmarks = []
    if spec.manifest is not None:
        manifest = Manifest.load(spec.manifest)
        data_benchmarks = [
            (name, benchmark, benchmark.parts(target, manifest)) for name, benchmark in spec.data_benchmarks()
        ]
    return Evaluation(
        target=target,
        data_benchmarks=data_benchmarks,
        prompt_benchmarks=prompt_benchmarks,
        items=items,
        inputs=spec.contents(),
    )


def check_networks(spec: EvaluateSpec) -> None:
    """Load the networks of benchmarks on a data set once, which is cheap, so that errors appear before workers start.

    Raises:
        ValueError: Weights are missing, have another checksum, or belong to another network.
        StorageError: Weights cannot be read.
    """
    if spec.manifest is None:
        return
    if spec.inception is not None:
        load_inception(spec.inception)
    if spec.reconstruction is not None and spec.reconstruction.lpips is not None:
        load_lpips(spec.reconstruction.lpips)


def _finish(spec: EvaluateSpec, evaluation: Evaluation, folder: str, found: ModelResults, seconds: float) -> None:
    """Write all files, the report last.

    Raises:
        ValueError: An input was replaced meanwhile, so that it is unknown what was scored.
    """
    now = spec.contents()
    if changed := sorted(name for name, digest in evaluation.inputs.items() if now.get(name) != digest):
        raise ValueError(
            f"{', '.join(changed)}: changed while {spec.model or spec.pictures_of} was evaluated; run it again when "
            "nothing writes there"
        )
    results = found.results
    origins = spec.origins(evaluation.inputs)
    on_data = sum(1 for _ in spec.data_benchmarks())
    scores = tuple(
        with_origin(with_split(score, spec.split) if number < on_data else score, origins)
        for number, result in enumerate(results)
        for score in result.scores
    )
    lines = chain.from_iterable(result.drawings for result in results)
    storage.write_text(storage.join(folder, SCORES_FILE), json.dumps([score.to_json() for score in scores], indent=2))
    report = EvaluateReport(
        model_digest=evaluation.target.model_digest,
        scores=scores,
        pictures=write_sheets(folder, results),
        records=write_records(folder, results),
        items=write_items(folder, results),
        drawings=write_lines(folder, DRAWINGS_FILE, [*found.drawings(evaluation), *lines]),
        seconds=seconds,
        inputs=dict(evaluation.inputs),
        origins=origins,
        size_px=_size_px(spec.model) if spec.model else None,
    )
    commit(spec, report)


def _size_px(model: str) -> tuple[int, int]:
    """Return rows and columns of the square pictures that a model draws."""
    config = ModelConfig.from_json(read_kind_and_config(model)[1], where=model)
    where = storage.join(model, TOKENIZER_FOLDER)
    tokenizer = TokenizerConfig.from_json(read_kind_and_config(where)[1], where=where)
    return config.resolution.schedule(1.0).image_size_px(tokenizer.stride_px)


def check_model(uri: str) -> str:
    """Check that a model folder can be used, before any worker starts; return the digest of the transformer.

    Raises:
        CheckpointError: There is no model folder, or its parts do not belong together.
    """
    kind, config = read_kind_and_config(uri)
    if kind != KIND:
        raise CheckpointError(f"{uri}: expected a model folder (a checkpoint of kind {KIND!r}), found kind {kind!r}")
    model = ModelConfig.from_json(config, where=uri)
    where = storage.join(uri, TOKENIZER_FOLDER)
    kind, config = read_kind_and_config(where)
    if kind != TOKENIZER_KIND:
        raise CheckpointError(f"{where}: expected a checkpoint of kind {TOKENIZER_KIND!r}, found kind {kind!r}")
    bits = TokenizerConfig.from_json(config, where=where).token_bits
    if bits != model.transformer.num_bits:
        raise CheckpointError(
            f"{uri}: the transformer predicts {model.transformer.num_bits} bits per token, the tokenizer in it has "
            f"{bits}; they do not belong together"
        )
    return storage.read_text(storage.join(uri, MARKER_FILE)).strip()
