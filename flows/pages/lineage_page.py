"""Where the scores of a model come from: score, checkpoint, recipe, manifest, sources, each with its digest and place.

The page follows the files that lie there, not the plan of the run, which may name other stages by now.
"""

from collections.abc import Iterator

from prefect.artifacts import create_markdown_artifact

from flows.operations.outage import until_shown
from flows.pages.links import link, verbatim
from flows.pages.pictures import inline
from flows.pages.results import score_row
from infinity import storage
from infinity.checkpoint import MARKER_FILE
from infinity.config import ConfigError
from infinity.jobs.dataset.spec import BuildDatasetSpec
from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.jobs.registry import load_spec
from infinity.jobs.spec import SPEC_FILE, JobSpec
from infinity.jobs.training.base import TrainSpec

MOST_TRAININGS = 20
"""A chain of trainings that is longer, or that leads back to itself, is cut off."""


@until_shown
def publish_lineage(spec: EvaluateSpec, report: EvaluateReport) -> None:
    """Publish where the scores of an evaluation come from, as the artifact "lineage"."""
    page = "\n\n".join(lineage_markdown(spec, report)) + "\n"
    create_markdown_artifact(
        key="lineage", markdown=page, description=f"From the scores of {spec.model} to its sources"
    )


def lineage_markdown(spec: EvaluateSpec, report: EvaluateReport) -> Iterator[str]:
    """Yield the parts of the page, from the scores to the pictures; a list that a phone can show."""
    yield f"# Lineage of the model {report.model_digest[:12]}"
    told = [
        f"- {inline(row['metric'])}: {inline(row['value'])}, n = {row['n']}" for row in map(score_row, report.scores)
    ]
    yield "\n".join(["## Scores", "", *told, *_recipe(spec)])
    manifests = list[str]()
    for title, model, training in trainings(spec.model):
        yield "\n".join([f"## {title}", "", *_checkpoint(model), *_recipe(training)])
        if isinstance(training, TrainSpec) and training.manifest not in manifests:
            manifests.append(training.manifest)
    for manifest in manifests:
        yield "\n".join(["## Pictures", "", f"- manifest: {link(manifest)}", *_source(manifest)])


def trainings(model: str) -> Iterator[tuple[str, str, JobSpec | None]]:
    """Yield title, model and spec of every training behind a model: its own, those it started from, the tokenizer's.

    The spec is None where the model was not trained here, such as an imported one.
    """
    tokenizer, found = "", model
    for _ in range(MOST_TRAININGS):
        training = _spec_beside(found)
        yield f"Checkpoint: {getattr(training, 'stage', 'imported')}", found, training
        tokenizer = getattr(training, "tokenizer", tokenizer)
        if (before := getattr(training, "start_from", None)) is None:
            break
        found = before
    if tokenizer:
        yield "Tokenizer", tokenizer, _spec_beside(tokenizer)


def _spec_beside(output: str) -> JobSpec | None:
    """Return the spec of the job whose folder holds a model or a manifest; None where none can be read."""
    spec = storage.join(storage.parent(output), SPEC_FILE)
    try:
        return load_spec(spec) if storage.exists(spec) else None
    except (ConfigError, storage.StorageError):  # a page is nothing to end a run for
        return None


def _checkpoint(model: str) -> Iterator[str]:
    marker = storage.join(model, MARKER_FILE)
    digest = storage.read_text(marker).strip() if storage.exists(marker) else "none, it is not finished"
    yield f"- checkpoint: {link(model)}"
    yield f"- digest: {verbatim(digest)}"


def _recipe(spec: JobSpec | None) -> Iterator[str]:
    """Yield what a job was asked for: the digest of its recipe, what matters most of it, and the file with all."""
    if spec is None:
        yield "- recipe: none beside it that this version can read"
        return
    yield f"- recipe: {link(storage.join(spec.folder, SPEC_FILE))}, digest {verbatim(spec.digest())}"
    if isinstance(spec, TrainSpec):
        loop, rate = spec.loop, spec.optimizer.learning_rate
        yield f"- {loop.num_steps:,} steps of {loop.batch_size} pictures, learning rate {rate:g}, seed {spec.seed}"


def _source(manifest: str) -> Iterator[str]:
    spec = _spec_beside(manifest)
    yield from _recipe(spec)
    if isinstance(spec, BuildDatasetSpec):
        drawn = f"{spec.scenes.count:,} drawn scenes" if spec.scenes else ""
        yield f"- sources: {verbatim(spec.source or drawn)}"
        if spec.fingerprint:
            yield f"- fingerprint of the sources: {verbatim(spec.fingerprint)}"
        if spec.parent:
            yield f"- grown from: {link(spec.parent)}"
