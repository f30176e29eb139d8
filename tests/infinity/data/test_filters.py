"""Each rule rejects what it names and nothing else."""

import pytest

from infinity.data.filters import FilterConfig, clean_caption, first_reason
from infinity.data.samples import Sample


def reason(caption: str | None = "a cat", width: int = 64, height: int = 64, **config: float) -> str | None:
    sample = Sample(width_px=width, height_px=height, caption=clean_caption(caption))
    return first_reason(sample, FilterConfig(**config).rules())  # type: ignore[arg-type]


def test_good_sample_passes_all_rules() -> None:
    assert reason() is None


@pytest.mark.parametrize("caption", [None, "", "  \n\t "])
def test_missing_or_blank_caption_is_dropped(caption: str | None) -> None:
    assert reason(caption) == "caption_missing"


@pytest.mark.parametrize("caption", ["a\0cat", "\0", "a \x07 bell", "half \ud83d of a pair", "a \x9b"])
def test_damaged_caption_is_dropped(caption: str) -> None:
    assert reason(caption) == "caption_control_characters"


def test_caption_length_counts_after_cleaning() -> None:
    assert reason("  x  ") == "caption_too_short"
    assert reason("ox") is None
    assert reason("ox", min_caption_chars=3) == "caption_too_short"


@pytest.mark.parametrize(("width", "height"), [(23, 64), (64, 23)])
def test_small_side_is_dropped(width: int, height: int) -> None:
    assert reason(width=width, height=height) == "small_side"
    assert reason(width=width, height=height, min_side_px=23) is None


@pytest.mark.parametrize("turned", [False, True])
def test_long_picture_is_dropped_either_way(turned: bool) -> None:
    sides = (100, 351) if turned else (351, 100)
    assert reason(width=sides[0], height=sides[1]) == "aspect_ratio"
    sides = (100, 350) if turned else (350, 100)
    assert reason(width=sides[0], height=sides[1]) is None


def test_cleaning_makes_one_line_of_composed_characters() -> None:
    assert clean_caption("  two\r\n lines\tand\u00a0a  cafe\u0301 ") == "two lines and a caf\u00e9"


@pytest.mark.parametrize(
    "config", [{"min_side_px": 0}, {"min_caption_chars": 0}, {"max_elongation": 0.5}, {"max_pixels": 10**9}]
)
def test_impossible_setting_is_a_clear_error(config: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected .* got"):
        FilterConfig(**config)  # type: ignore[arg-type]
