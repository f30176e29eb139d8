"""The end of an evaluation: is the model the new champion of its family? The run's final state says why."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed
from pydantic import Field

from flows.forms.form import Form
from flows.pages.links import link
from flows.pages.pictures import figure, inline
from flows.stages.kinds import evaluation_stage
from infinity import storage
from infinity.evaluation.promotion.champions import (
    Champion,
    ChampionChangedError,
    ChampionError,
    Champions,
    check_digest,
    family_of,
)
from infinity.evaluation.promotion.contest import contest
from infinity.evaluation.promotion.floors import below_floor
from infinity.evaluation.promotion.gate import GateError, GateReport
from infinity.evaluation.promotion.margins import GateConfig
from infinity.evaluation.promotion.rolled_back import not_promoted
from infinity.jobs.evaluation import results as evaluated
from infinity.jobs.evaluation.comparing import write_comparison
from infinity.jobs.evaluation.spec import EvaluateReport, EvaluateSpec
from infinity.reporting.comparison import comparison_row
from infinity.reporting.summary import Sheet
from infra.settings import settings

GATE_FOLDER = "gate"


class GateForm(Form):
    """What happens to the model after it was scored."""

    promote: bool = Field(
        default=True, description="Make it the champion of its family if no metric is worse. Off: score it only."
    )
    family: str | None = Field(
        default=None, description="Models of one family compete. Empty: the family with the name of the run."
    )
    deltas: dict[str, float] = Field(
        default_factory=dict,
        description="Largest acceptable loss by metric (or pattern with *), in the metric's unit, instead of "
        'the default: {"scene_geneval.counting": 0.1}.',
    )
    floors: dict[str, float] = Field(
        default_factory=dict,
        description="Value that no champion may be worse than, by metric (or pattern with *), in the metric's unit: "
        '{"geneval.overall": 0.5}. It applies to the first champion too.',
    )
    readmit: str | None = Field(
        default=None,
        description="Digest of a rolled-back model that may be promoted again. Empty: such models are not promoted.",
    )

    def config(self) -> GateConfig:
        """Return the gate with these margins and floors.

        Raises:
            ValueError: A metric has no default margin, a margin is not above 0, or a floor is no number.
        """
        return GateConfig(floors=self.floors).with_deltas(self.deltas)


def decide(spec: EvaluateSpec, report: EvaluateReport, folder: str, form: GateForm) -> State[Any]:
    """Compare the model with the champion, promote it or not, and return the run's final state.

    Args:
        spec: Spec of the evaluation.
        report: Report of the evaluation.
        folder: Folder of the run; its name is the default family, and the registry lies beside it by default.
        form: Choices of the user.

    Raises:
        ValueError: The champion's folder was changed, or the two evaluations do not compare.
        StageFailed: The champion could not be scored.
    """
    if not form.promote:
        return Completed(name="Scored", message=f"{report.model_digest} was scored only, as asked", data=report)
    family = form.family or family_of(storage.name(folder))
    champions = Champions(storage.absolute(settings().registry or storage.join(storage.parent(folder), "registry")))
    history = champions.history(family)
    if history and history[-1].model_digest == report.model_digest:
        message = f"{report.model_digest} is the champion of {family} already (record {history[-1].number})"
        return Completed(name="Unchanged", message=message, data=report)
    if (refused := _refused(report, history, form)) is not None:
        return refused
    if not history:
        return _promote(champions, family, None, spec, report, "the first model of its family")
    return _contest(champions, history, spec, report, form.config())


def _refused(report: EvaluateReport, history: Sequence[Champion], form: GateForm) -> State[Any] | None:
    """Return the final state of a model that may not be champion anyway: it was rolled back, or is below a floor."""
    digest = report.model_digest
    if (by := not_promoted(history).get(digest)) is not None and form.readmit != digest:
        message = (
            f"Not promoted: {digest} was rolled back by {by.who} at {by.when} ({by.why}). To let it compete again, "
            "give its digest as readmit; to make it champion at once, roll back to its record"
        )
        return Completed(name="RolledBack", message=message, data=report)
    if problems := below_floor(report.scores, form.config()):
        return Failed(name="Blocked", message=f"Blocked: {'; '.join(problems)}")
    return None


def _contest(
    champions: Champions, history: Sequence[Champion], spec: EvaluateSpec, report: EvaluateReport, config: GateConfig
) -> State[Any]:
    """Compare with the champions of the family; promote the model or not."""
    present = history[-1]

    def compare(champion: Champion, only: Collection[str] | None) -> GateReport | None:
        try:
            check_digest(champion.model, champion.model_digest)
        except ChampionError:
            if champion is present:
                raise
            return None
        return _compare(spec, champion, config, only)

    found = contest(history, report.scores, compare, config)
    if found.end == "block":
        return Failed(name="Blocked", message=f"Blocked: {found.why}")
    if found.end == "undecided":
        return Completed(name="Undecided", message=f"Not promoted, too small a sample: {found.why}", data=report)
    if found.end == "keep":
        champions.keep(present, model=spec.model, model_digest=report.model_digest, why=found.why)
        message = (
            f"Not promoted: {report.model_digest} is better in nothing than champion {present.number}; {found.why}"
        )
        return Completed(name="Kept", message=message, data=report)
    return _promote(champions, present.family, present, spec, report, found.why)


def _compare(spec: EvaluateSpec, champion: Champion, config: GateConfig, only: Collection[str] | None) -> GateReport:
    """Return the gate's report on a present or earlier champion, and show it on the run's page."""
    against = spec.replace(model=champion.model)
    evaluation_stage(against, "champion")
    before, after = (evaluated.load(each.folder) for each in (against.located(), spec))
    folder = storage.join(spec.folder, GATE_FOLDER, champion.model_digest)
    files, report, refusal = write_comparison(
        before, after, folder, titles=(f"champion {champion.number}", "candidate"), config=config, only=only
    )
    if report is None:
        raise GateError(refusal)
    links = {"all prompts side by side": files.html, "scores": files.json, "candidate": after.folder}
    _publish(links | {"champion": before.folder}, report, files.worst)
    return report


def _publish(links: Mapping[str, str], report: GateReport, worst: Sheet | None) -> None:
    """Publish the comparison as a table with intervals, and the prompts that became worse as a page."""
    table = []
    for comparison in report.comparisons:
        row = comparison_row(comparison)
        shown = {name: row[name] for name in ("metric", "champion", "candidate", "gain")}
        shown |= {"95 % interval of the gain": row["interval"], "loss by chance": row["noise"]}
        table.append(shown | {name: row[name] for name in ("delta", "unit", "n", "verdict")})
    create_table_artifact(key="gate-numbers", table=table, description=report.cause)
    parts = ["# gate", inline(f"{report.decision}: {report.cause}")]
    parts.append("\n".join(f"- {name}: {link(uri)}" for name, uri in links.items()))
    parts.append("No prompt became worse." if worst is None else figure(worst))
    if report.ungated:
        reasons = (f"- `{metric}`: {inline(reason)}" for metric, reason in report.ungated.items())
        parts.append("## Not gated\n\n" + "\n".join(reasons))
    create_markdown_artifact(key="gate-pictures", markdown="\n\n".join(parts) + "\n", description="Worst prompts")


def _promote(
    champions: Champions, family: str, follows: Champion | None, spec: EvaluateSpec, report: EvaluateReport, why: str
) -> State[Any]:
    try:
        record = champions.promote(
            family,
            follows=follows,
            model=spec.model,
            model_digest=report.model_digest,
            evaluation=spec.folder,
            scores=report.scores,
            why=why,
        )
    except ChampionChangedError as error:
        return Completed(name="Overtaken", message=str(error), data=report)
    message = f"{report.model_digest} is champion {record.number} of {family}: {why}"
    get_run_logger().info("%s", message)
    return Completed(name="Promoted", message=message, data=report)
