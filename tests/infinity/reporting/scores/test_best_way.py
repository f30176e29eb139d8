"""The best way of drawing is named by the mean over seeds, with those that may be as good."""

import pytest

from infinity.evaluation.score import Score
from infinity.reporting.scores.best_way import Way, best_way


def way(name: str, *values: float, half: float | None = 0.05, metric: str = "scene_geneval.overall") -> Way:
    ends = [(None, None) if half is None else (value - half, value + half) for value in values]
    scores = tuple(
        Score(metric=metric, value=value, unit="share", n=9, protocol="p/1", low=low, high=high)
        for value, (low, high) in zip(values, ends, strict=True)
    )
    return Way(name=name, scores=scores)


def test_the_mean_over_seeds_decides_and_not_the_luckiest_seed() -> None:
    found = best_way([way("lucky", 0.9, 0.1), way("steady", 0.6, 0.6)], "scene_geneval.overall")
    assert found.startswith("Best scene_geneval.overall by the mean over 2 seeds: steady (0.6)")


def test_what_chance_explains_is_not_told_apart() -> None:
    ways = [way("a", 0.60), way("b", 0.55), way("c", 0.40)]
    assert best_way(ways, "scene_geneval.overall").endswith("a (0.6); not clearly better than b.")
    assert best_way(ways[::2], "scene_geneval.overall").endswith("a (0.6), clearly better than all others.")


@pytest.mark.parametrize("metric", ["fid", "validation.loss", "lpips"])
def test_lower_is_better_where_the_metric_says_so(metric: str) -> None:
    assert "low (1)" in best_way([way("low", 1.0, metric=metric), way("high", 2.0, metric=metric)], metric)


def test_without_intervals_or_values_it_says_so() -> None:
    found = best_way([way("a", 0.6, half=None), way("b", 0.5, half=None)], "fid")
    assert "no interval" in found
    assert best_way([Way(name="a", scores=())], "fid") == "No way of drawing has a value of fid."
