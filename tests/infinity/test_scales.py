"""Scale schedules: the published table, prefixes, spans and the nearest ratio."""

import json
import math
from pathlib import Path

import pytest

from infinity.scales import (
    ASPECT_RATIOS,
    SIZES,
    Resolution,
    ScaleSchedule,
    custom_schedule,
    denser,
    nearest_aspect_ratio,
    published_schedule,
)

ALL = [published_schedule(ratio, size) for ratio in ASPECT_RATIOS for size in SIZES]


GOLDEN = Path(__file__).parents[1] / "golden" / "g_dynamic_resolution" / "case.json"


def test_all_sixty_schedules_equal_the_reference_table() -> None:
    case = json.loads(GOLDEN.read_text())
    names = dict(zip(("0.06M", "0.25M", "0.60M", "1M"), SIZES, strict=True))
    assert [float(ratio) for ratio in case["template_order"]] == list(ASPECT_RATIOS)
    count = 0
    for ratio, sizes in case["table"].items():
        for name, row in sizes.items():
            schedule = published_schedule(float(ratio), names[name])
            assert [list(grid) for grid in schedule.grids] == [scale[1:] for scale in row["scales_t_h_w"]]
            assert list(schedule.image_size_px(16)) == row["pixel_hw"]
            assert schedule.num_tokens == row["seq_len_images_t1"]
            count += 1
    assert count == 60


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: f"{s.aspect_ratio}-{s.num_scales}")
def test_spans_tile_the_sequence(schedule: ScaleSchedule) -> None:
    assert schedule.spans[0] == slice(0, 1)
    assert all(a.stop == b.start for a, b in zip(schedule.spans, schedule.spans[1:], strict=False))
    assert schedule.spans[-1].stop == schedule.num_tokens


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
def test_smaller_sizes_are_prefixes_in_the_frame_of_the_largest(ratio: float) -> None:
    largest = published_schedule(ratio, "1024")
    for size in SIZES:
        schedule = published_schedule(ratio, size)
        assert schedule == largest.prefix(schedule.num_scales)
        assert schedule.frame == largest.last_grid


def test_the_square_lengths_of_the_paper() -> None:
    assert [published_schedule(1.0, size).num_tokens for size in SIZES] == [521, 2521, 6425, 10521]


def test_wide_grids_are_the_tall_ones_turned() -> None:
    tall, wide = published_schedule(2.5, "512"), published_schedule(0.4, "512")
    assert wide.grids == tuple((w, h) for h, w in tall.grids)


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
def test_a_picture_of_a_ratio_goes_to_that_ratio(ratio: float) -> None:
    height, width = published_schedule(ratio, "1024").image_size_px(16)
    assert nearest_aspect_ratio(height, width) == ratio


def test_of_two_equally_near_ratios_the_first_wins_and_distances_are_absolute() -> None:
    assert nearest_aspect_ratio(9, 8) == 1.0  # 1.125 lies between 1.0 and 1.25
    assert nearest_aspect_ratio(1.1, 1.0, among=(2.0, 0.2)) == 2.0  # a logarithm would say so too: 0.9 against 0.9
    assert nearest_aspect_ratio(1.0, 2.2, among=(1.0, 0.2)) == 0.2
    with pytest.raises(ValueError, match="positive"):
        nearest_aspect_ratio(0, 5)


@pytest.mark.parametrize(("ratio", "last_grid", "num_scales"), [(1.0, (8, 8), 4), (2.0, (8, 4), 5), (1.0, (1, 1), 1)])
def test_a_custom_schedule_ends_in_its_last_grid(ratio: float, last_grid: tuple[int, int], num_scales: int) -> None:
    schedule = custom_schedule(ratio, last_grid, num_scales)
    assert schedule.last_grid == schedule.frame == last_grid
    assert schedule.num_scales == num_scales
    if num_scales > 1:
        assert schedule.grids[0] == (1, 1)
    assert schedule.prefix(num_scales) == schedule


def test_sides_of_a_custom_schedule_grow_evenly() -> None:
    assert custom_schedule(1.0, (9, 5), 5).grids == ((1, 1), (3, 2), (5, 3), (7, 4), (9, 5))


def test_denser_grids_of_a_ratio_lie_between_its_own_as_those_of_the_square_do() -> None:
    """Areas of 4 and 64: the sides 3 to 7 divide the way from 2 to 8."""
    schedule = ScaleSchedule(aspect_ratio=4.0, grids=((4, 1), (16, 4)), frame=(16, 4))
    assert denser(schedule).grids == ((4, 1), (6, 2), (8, 2), (10, 2), (12, 3), (14, 4), (16, 4))


def test_a_resolution_gives_every_ratio_about_the_same_area() -> None:
    resolution = Resolution(sides=(1, 2, 4, 8))
    for ratio in ASPECT_RATIOS:
        height, width = resolution.schedule(ratio).last_grid
        assert 50 <= height * width <= 80
    assert Resolution(size="256").schedule(1.0) == published_schedule(1.0, "256")


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: f"{s.aspect_ratio}-{s.num_scales}")
def test_denser_grids_keep_those_of_use_and_the_size_of_the_picture(schedule: ScaleSchedule) -> None:
    dense = denser(schedule)
    assert set(schedule.grids) <= set(dense.grids)
    assert (dense.grids[0], dense.last_grid, dense.frame) == (schedule.grids[0], schedule.last_grid, schedule.frame)
    assert len(set(dense.grids)) == dense.num_scales > schedule.num_scales


def test_dense_squares_are_the_published_training_lists() -> None:
    upto = [*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64]
    for size, last in (("256", 16), ("512", 32), ("1024", 64)):
        schedule = Resolution.from_json({"size": size, "dense": True}).schedule(1.0)
        assert [rows for rows, _ in schedule.grids] == [n for n in upto if n <= last]
    assert Resolution(sides=(1, 2, 4, 8), dense=True).schedule(1.0).grids == tuple((n, n) for n in range(1, 9))
    repeated = custom_schedule(1.0, (2, 2), 5)
    assert denser(repeated) == repeated


def test_impossible_schedules_are_refused_with_a_reason() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*height / width"):
        published_schedule(1.1, "256")
    with pytest.raises(ValueError, match="coarse to fine"):
        ScaleSchedule(aspect_ratio=1.0, grids=((2, 2), (1, 1)), frame=(2, 2))
    with pytest.raises(ValueError, match="both or neither"):
        Resolution()
    with pytest.raises(ValueError, match="1 to 4 scales, got 5"):
        custom_schedule(1.0, (8, 8), 4).prefix(5)
    with pytest.raises(ValueError, match="1 to 4 scales, got 0"):
        custom_schedule(1.0, (8, 8), 4).prefix(0)
    with pytest.raises(ValueError, match="num_scales: expected at least 1, got 0"):
        custom_schedule(1.0, (8, 8), 0)
    for grids in (((0, 1),), ((1, 0),)):
        with pytest.raises(ValueError, match="positive rows and columns"):
            ScaleSchedule(aspect_ratio=1.0, grids=grids, frame=(2, 2))
    for grids in (((1, 2), (2, 1)), ((2, 1), (1, 2))):
        with pytest.raises(ValueError, match="coarse to fine"):
            ScaleSchedule(aspect_ratio=1.0, grids=grids, frame=(2, 2))
    with pytest.raises(ValueError, match="at least one grid"):
        ScaleSchedule(aspect_ratio=1.0, grids=(), frame=(2, 2))
    for sides in ((), (0, 1), (2, 1)):
        with pytest.raises(ValueError, match="from coarse to fine"):
            Resolution(sides=sides)


def test_folding_doubles_rows_and_columns() -> None:
    schedule = published_schedule(1.5, "256")
    assert all(b == (2 * a[0], 2 * a[1]) for a, b in zip(schedule.grids, schedule.unfolded().grids, strict=True))


@pytest.mark.parametrize(("height", "width"), [(math.inf, 1), (1, math.inf), (math.nan, 1), (-1, 1), (1, 0)])
def test_sides_that_no_picture_has_are_nearest_to_nothing(height: float, width: float) -> None:
    with pytest.raises(ValueError, match="expected a positive height and width"):
        nearest_aspect_ratio(height, width)


@pytest.mark.parametrize("ratio", [math.nan, math.inf, -1.0, 0.0])
@pytest.mark.parametrize("resolution", [Resolution(sides=(1, 2, 4)), Resolution(size="256")])
def test_no_schedule_has_a_ratio_that_no_picture_has(resolution: Resolution, ratio: float) -> None:
    with pytest.raises(ValueError, match="aspect ratio: expected"):
        resolution.schedule(ratio)
