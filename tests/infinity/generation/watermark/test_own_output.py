"""The data stage finds pictures of its own model by their watermark, keeps all others, and stores no key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infinity.data.curation.filters import FilterConfig, ModelFilters
from infinity.generation.watermark.own_output import OwnOutputConfig
from infinity.jobs.dataset.filter_sets import with_model_filters
from infinity.jobs.dataset.spec import BuildDatasetSpec
from infinity.perception.scorers import load_scorers, score_key
from infinity.scenes.drawing import ScenesConfig
from tests.fixtures.data.small_world import write_model

SECRET = "a secret of the tests"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> OwnOutputConfig:
    folder = tmp_path_factory.mktemp("model")
    (folder / "key").write_text(SECRET)
    return OwnOutputConfig(model=write_model(folder), key_file=str(folder / "key"))


def spec(**changes: object) -> BuildDatasetSpec:
    return BuildDatasetSpec(output="o", scenes=ScenesConfig(count=4), **changes)


def test_a_spec_with_the_rule_comes_back_from_json_and_holds_no_key(config: OwnOutputConfig) -> None:
    given = spec(scorers=(config,), filters=FilterConfig(models=ModelFilters(max_own_output=6.0)))
    assert BuildDatasetSpec.parse(given.dump()) == given
    assert SECRET not in given.dump() + score_key(config)


def test_where_the_rule_is_off_specs_and_rules_are_those_of_before() -> None:
    assert "own_output" not in spec().dump()
    assert [rule.reason for rule in ModelFilters().rules()][-1] == "text_area"
    assert ModelFilters(max_own_output=6.0).needed() == ("own_output",)


def test_the_scorer_gives_a_finite_number_per_picture_of_any_size(config: OwnOutputConfig) -> None:
    (scorer,) = load_scorers([config], "cpu")
    numbers = np.random.default_rng(0)
    pictures = [numbers.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((24, 24), (7, 90), (1, 1))]
    found = scorer(pictures, ["", "a", "b"])
    assert found.dtype == np.float32
    assert ((found >= 0) & (found < 5)).all()


def test_the_score_is_minus_the_logarithm_of_the_p_value(config: OwnOutputConfig) -> None:
    scorer = config.load("cpu")
    picture = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    found = scorer.detector.test(Image.fromarray(picture), config.crops)
    assert scorer([picture], [""]).tolist() == pytest.approx([-found.log10_p])


def test_another_key_or_crop_is_another_score(config: OwnOutputConfig, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("another secret of the tests")
    others = [config.replace(key_file=str(tmp_path / "other")), config.replace(crops=(0.05,)), config]
    assert len({score_key(each) for each in others}) == 3


def test_a_rule_without_its_scorer_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="own_output has no default network"):
        with_model_filters(spec(), ModelFilters(max_own_output=6.0))
