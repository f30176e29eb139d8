"""Progress travels from workers to the sink."""

import contextvars

import pytest

from infinity.jobs.progress import Progress, relayed, section
from tests.fixtures.limits import wait_until


def test_a_section_maps_its_fractions_into_the_whole() -> None:
    heard: list[Progress] = []
    part = section(heard.append, 0.5, 0.9)
    part(Progress(0.0, "begin"))
    part(Progress(1.0, "end"))
    assert [p.fraction for p in heard] == [pytest.approx(0.5), pytest.approx(0.9)]


def test_a_fraction_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="share from 0 to 1"):
        Progress(1.5, "too far")


@pytest.mark.ray
def test_messages_of_workers_reach_the_sink_in_order_and_in_the_callers_context(local_ray: None) -> None:
    import ray

    place = contextvars.ContextVar("place", default="nowhere")
    place.set("here")
    heard: list[tuple[str, str]] = []

    with relayed(lambda p: heard.append((place.get(), p.message)), period_s=0.05) as sink:

        @ray.remote(num_cpus=0)
        def work() -> None:
            for n in range(5):
                sink(Progress(n / 5, f"part {n}"))

        ray.get(work.remote())
        wait_until(lambda: len(heard) == 5, "the last message")
    assert [text for _, text in heard] == [f"part {n}" for n in range(5)]


@pytest.mark.ray
def test_an_error_of_the_sink_is_raised_at_the_end_of_the_block(local_ray: None) -> None:
    def refuse(progress: Progress) -> None:
        raise RuntimeError("cancelled")

    with pytest.raises(RuntimeError, match="cancelled"), relayed(refuse, period_s=0.05) as sink:
        sink(Progress(0.1, "hello"))
