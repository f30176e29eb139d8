"""A page that grows while a training runs."""

import json
from pathlib import Path

import pytest
from PIL import Image
from prefect import flow

from flows.pages import live
from flows.pages.live import CURVE_WIDTH, LivePage, course
from flows.records.plan import new_plan
from infinity.jobs.progress import Progress
from infra.settings import settings
from tests.fixtures.servers.prefect_api import ask


@pytest.mark.parametrize("number", [1, 2, 39, 40, 41, 1000])
def test_a_curve_fits_a_phone_and_goes_from_its_first_to_its_last_stretch(number: int) -> None:
    rising = course([float(value) for value in range(number)])
    assert len(rising) == min(CURVE_WIDTH, number)
    assert list(rising) == sorted(rising)
    assert number == 1 or (rising[0], rising[-1]) == ("▁", "█")


def test_a_curve_of_equal_or_of_infinite_values_is_flat_or_nothing() -> None:
    assert course([3.0] * 5) == "▁▁▁▁▁"
    assert course([float("nan"), float("inf")]) == ""
    assert len(course([1.0, float("nan"), 2.0])) == 2


@pytest.mark.prefect
def test_the_page_is_one_artifact_that_shows_step_curves_samples_and_the_command(
    tmp_path: Path, prefect_server: str
) -> None:
    spec = new_plan("mini", None, str(tmp_path / "run")).tokenizer
    folder = Path(spec.folder)
    (folder / "samples").mkdir(parents=True)
    Image.effect_noise((640, 480), 90).convert("RGB").save(folder / "samples" / "step-00000020.png")
    (folder / "samples" / "step-00000099 of a person.png").write_text("no picture")
    rows = [{"step": step, "loss": 1.0 / step, "bit_entropy.bit_0": 0.5} for step in (1, 2, 3, 2, 3, 4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 5, "lo')
    live = LivePage("tokenizer", spec)

    @flow
    def training() -> None:
        live.show(Progress(0.25, "step 10 of 40"))
        live.show(Progress(0.5, "step 20 of 40"))

    state = training(return_state=True)
    query = {"flow_runs": {"id": {"any_": [str(state.state_details.flow_run_id)]}}}
    (artifact,) = ask(prefect_server, "artifacts/filter", query)
    assert artifact["key"] == "tokenizer-live"
    page = artifact["data"]
    for words in (
        "# tokenizer: 50 %",
        "step 20 of 40",
        "| loss | █▃▁▁ | 1 | 0.25 |",
        "Samples of step 20",
        "infinity run",
    ):
        assert words in page
    assert "bit_0" not in page
    assert len(page) < 20_000


def test_the_page_says_what_a_session_took_and_about_what_is_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFINITY_POWER_CPU_W", "1000")
    monkeypatch.setenv("INFINITY_PRICE_CPU_HOUR", "2")
    settings.cache_clear()
    spec = new_plan("mini", None, str(tmp_path / "run")).tokenizer
    spec = spec.replace(workers=spec.workers.replace(num_workers=1, threads=3))
    page = LivePage("tokenizer", spec)
    assert page._spent(0.0, 0.5) == "0.00 h, 0.00 CPU hours in this session"  # it went on from its stored step
    told = page._spent(3600.0, 0.75)
    assert told == (
        "1.00 h, 3.00 CPU hours, cost 6.00, 3 kWh in this session; "
        "to the end about 1.00 h, 3.00 CPU hours, cost 6.00, 3 kWh"
    )
    settings.cache_clear()


@pytest.mark.parametrize(
    "line",
    ["{", "[" * 100_000, "[1]", "7", '{"loss": 1}', '{"step": "x"}', '{"step": 1e999, "loss": 1}', '{"step": NaN}'],
)
def test_a_damaged_line_of_metrics_is_passed_over(line: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{line}\n{{"step": 2, "loss": 0.5}}\n')
    (table,) = live._curves(str(tmp_path))
    assert table.splitlines()[2:] == ["| loss | \u2581 | 0.5 | 0.5 |"]


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e308", "-1e308", "1e999", "NaN", '"x"', "null", "true"])
def test_numbers_beyond_all_measure_do_not_end_the_page(number: str, tmp_path: Path) -> None:
    rows = [f'{{"step": {step}, "loss": {value}}}' for step, value in enumerate(["0.5", number, number, "0.25"])]
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows))
    (table,) = live._curves(str(tmp_path))
    assert table.endswith("| 0.5 | 0.25 |")
