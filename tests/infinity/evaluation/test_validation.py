"""What a measurement of validation may be asked for."""

import pytest

from infinity.evaluation.validation import ValidationMeasure


@pytest.mark.parametrize("wrong", [{"num_pictures": 0}, {"self_correction": -0.1}, {"self_correction": 1.1}])
def test_impossible_measurements_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
        ValidationMeasure(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "right", [{"num_pictures": None}, {"num_pictures": 1}, {"self_correction": 0.0}, {"self_correction": 1.0}]
)
def test_all_pictures_one_and_the_ends_of_the_rate_are_possible(right: dict[str, float | None]) -> None:
    measure = ValidationMeasure(**right)  # type: ignore[arg-type]
    assert all(getattr(measure, name) == value for name, value in right.items())
