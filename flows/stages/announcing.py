"""The plan of a run on its page before the first stage begins, and a refusal where it cannot fit."""

from prefect.artifacts import create_table_artifact

from flows.operations.outage import until_shown
from flows.records.forecast import Prices, StageForecast, forecast, problems, shown
from flows.records.plan import STAGES
from infinity.recipes.runs import EndToEnd
from infra.settings import settings


def announce_plan(plan: EndToEnd, names: tuple[str, ...] = STAGES) -> None:
    """Show which stages run and what they need, and refuse what cannot fit.

    Raises:
        ValueError: A stage needs more memory or disk than there is.
    """
    stages = forecast(plan, timed=False, names=names)
    _publish(stages)
    if found := list(problems(stages, plan, is_local=settings().ray_address is None)):
        raise ValueError("; ".join(found))


@until_shown
def _publish(stages: list[StageForecast]) -> None:
    rows = shown(stages, Prices(cpu_hour=settings().price_cpu_hour, gpu_hour=settings().price_gpu_hour))
    filled = [name for name in rows[0] if any(row[name] for row in rows)]
    table = [{name: row[name] for name in filled} for row in rows]
    create_table_artifact(key="plan", table=table, description="Plan: which stages run, and what they need")
