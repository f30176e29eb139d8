"""A study from two evaluations: blind for raters, answered in a real browser, scored from the files that it saves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infinity.cli import app
from infinity.jobs.evaluation.rating import RatingKey
from tests.fixtures.jobs.evaluations import prompts, write_evaluation

NUMBER = 6


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "250")
    first = write_evaluation(tmp_path / "run", "alpha", prompts(NUMBER, 0.9))
    second = write_evaluation(tmp_path / "run", "beta", prompts(NUMBER, 0.2))
    code, output = run("make", f"alpha={first.folder}", f"beta={second.folder}", "-o", tmp_path / "study")
    assert code == 0, output
    assert f"{NUMBER} pairs" in output
    return tmp_path / "study"


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["rate", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


def key_of(study: Path) -> RatingKey:
    return RatingKey.parse((study / "key.json").read_text())


def test_raters_see_nothing_of_the_models_and_sides_are_mixed(study: Path) -> None:
    seen = "".join(file.read_text(errors="replace") for file in (study / "raters").rglob("*") if file.is_file())
    names = [file.name for file in (study / "raters").rglob("*")]
    assert not any(word in seen + " ".join(names) for word in ("alpha", "beta", "evaluation-", "transformer-"))
    assert len(list((study / "raters/pictures").glob("*.png"))) == 2 * NUMBER
    assert {pair.left for pair in key_of(study).pairs} == {"alpha", "beta"}


def write_rater(study: Path, name: str, choices: dict[str, str]) -> Path:
    file = study / f"{name}.json"
    file.write_text(json.dumps({"study": key_of(study).study, "rater": name, "choices": choices}))
    return file


def test_files_of_raters_give_win_rates_elo_and_agreement(study: Path) -> None:
    better = {pair.id: "left" if pair.left == "alpha" else "right" for pair in key_of(study).pairs}
    one = write_rater(study, "one", better)
    other = write_rater(study, "other", {**better, key_of(study).pairs[0].id: "tie"})
    code, output = run("score", study / "key.json", one, other)
    assert code == 0, output
    assert f"alpha wins against beta {(2 * NUMBER - 0.5) / (2 * NUMBER):.4g}" in output
    assert "Elo of alpha 1" in output
    assert f"equal choices of two raters {5 / 6:.4g}" in output
    assert "agreement with scene_geneval.overall 1" in output
    assert f"2 raters, {NUMBER} of {NUMBER} pairs, {2 * NUMBER} choices" in output


def test_a_metric_of_other_prompts_with_the_same_numbers_says_nothing_about_the_raters(tmp_path: Path) -> None:
    folders = []
    for name, value in (("alpha", 0.9), ("beta", 0.2)):
        own = prompts(NUMBER, value)
        other = {item: 1 - number for item, number in own.items()}  # of another list, numbered alike
        found = write_evaluation(tmp_path / "run", name, own, more={"clip_score.overall": other})
        folders.append(f"{name}={found.folder}")
    study = tmp_path / "study"
    assert run("make", *folders, "-o", study)[0] == 0
    better = {pair.id: "left" if pair.left == "alpha" else "right" for pair in key_of(study).pairs}
    code, output = run("score", study / "key.json", write_rater(study, "one", better))
    assert code == 0, output
    assert "agreement with scene_geneval.overall 1" in output
    assert "clip_score" not in output


def test_what_is_no_study_is_one_sentence(study: Path, tmp_path: Path) -> None:
    assert "expected <model's name>=<folder>" in run("make", tmp_path, "-o", tmp_path / "x")[1]
    folder = next(iter(key_of(study).evaluations.values()))
    assert "expected at least two evaluations" in run("make", f"a={folder}", "-o", tmp_path / "x")[1]
    named = [f"{name}={folder}" for name in ("a", "b", "a")]
    assert "a: expected one evaluation per model's name, got 2" in run("make", *named, "-o", tmp_path / "x")[1]
    (study / "odd.json").write_text("{}")
    code, output = run("score", study / "key.json", study / "odd.json")
    assert (code, "missing" in output) == (1, True)


@pytest.mark.browser
def test_a_rater_in_a_real_browser_stops_returns_and_saves(study: Path, tmp_path: Path, exhaustive: bool) -> None:
    if not exhaustive:
        pytest.skip("starts a browser; run with --exhaustive")
    if not (shutil.which("chromedriver") and (shutil.which("chromium") or shutil.which("google-chrome"))):
        pytest.skip("no chromium with its driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.wait import WebDriverWait

    from tests.browser.screenshots import FLAGS

    options = Options()
    for flag in (*FLAGS, "--window-size=1100,900", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    saved = tmp_path / "saved"
    saved.mkdir()
    options.add_experimental_option("prefs", {"download.default_directory": str(saved)})
    left_of = {pair.id: pair.left for pair in key_of(study).pairs}
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:

        def begin() -> None:
            driver.get((study / "raters/rating.html").as_uri())
            driver.find_element(By.ID, "rater").send_keys("Ann B.")
            driver.find_element(By.ID, "begin").click()

        def shown() -> str:
            return str(driver.find_element(By.ID, "work").get_attribute("data-pair"))

        begin()
        order = []
        for number in range(3):
            order.append(shown())
            side = "left" if left_of[order[-1]] == "alpha" else "right"
            if number:
                driver.find_element(By.TAG_NAME, "body").send_keys(
                    Keys.ARROW_LEFT if side == "left" else Keys.ARROW_RIGHT
                )
            else:
                driver.find_element(By.ID, side).click()
        driver.save_screenshot(str(tmp_path / "study.png"))
        assert driver.find_element(By.ID, "count").text == f"3 of {NUMBER}"
        begin()  # the page is loaded anew, as after a break
        assert driver.find_element(By.ID, "count").text == f"3 of {NUMBER}", "choices are kept"
        assert shown() not in order, "what was chosen is not asked again"
        driver.find_element(By.ID, "back").click()
        assert shown() == order[2]
        driver.find_element(By.ID, "tie").click()
        while driver.find_element(By.ID, "work").is_displayed():
            driver.find_element(By.ID, "left" if left_of[shown()] == "alpha" else "right").click()
        assert driver.find_element(By.ID, "end").is_displayed()
        driver.find_element(By.CSS_SELECTOR, "#end .save").click()
        WebDriverWait(driver, 60).until(lambda _: list(saved.glob("*.json")))
    finally:
        driver.quit()
    (file,) = saved.glob("*.json")
    choices = json.loads(file.read_text())["choices"]
    assert len(choices) == NUMBER
    assert choices[order[2]] == "tie"
    code, output = run("score", study / "key.json", file)
    assert code == 0, output
    assert f"alpha wins against beta {(NUMBER - 0.5) / NUMBER:.4g}" in output
