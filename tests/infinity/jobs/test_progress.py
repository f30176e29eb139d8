"""Progress travels from workers to the sink."""

import contextvars
import itertools
import threading
from types import SimpleNamespace

import pytest

from infinity.jobs import progress as progress_module
from infinity.jobs.progress import Progress, relayed, section, unfailing
from tests.fixtures.limits import AGES_S, wait_until


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
def test_a_sink_that_fails_is_asked_again_and_ends_nothing(local_ray: None) -> None:
    heard: list[str] = []
    asked = 0

    def flaky(progress: Progress) -> None:
        nonlocal asked
        asked += 1
        if asked <= 2:
            raise ConnectionError("the server is away for a moment")
        heard.append(progress.message)

    with relayed(flaky, period_s=0.05) as sink:
        sink(Progress(0.1, "the only message"))
        wait_until(lambda: heard, "the message that was kept")
    assert heard == ["the only message"]


@pytest.mark.ray
def test_what_could_not_be_said_is_tried_once_more_at_the_end_of_the_block(local_ray: None) -> None:
    heard: list[str] = []
    away = True

    def sink_of_page(progress: Progress) -> None:
        if away:
            raise OSError("away")
        heard.append(progress.message)

    with relayed(sink_of_page, period_s=0.02) as sink:
        import ray

        for n in range(3):
            sink(Progress(n / 3, f"part {n}"))
        ray.get(sink._mailbox.take.remote())  # until all have arrived
        sink(Progress(0.9, "the newest"))
        away = False
    assert heard[-1:] == ["the newest"]


@pytest.mark.ray
def test_a_sink_that_never_returns_ends_no_block(local_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "LAST_WORD_S", 0.2)
    asked, never = threading.Event(), threading.Event()

    def hang(progress: Progress) -> None:
        asked.set()
        never.wait()

    with relayed(hang, period_s=0.02) as sink:
        sink(Progress(0.5, "hello"))
        assert asked.wait(AGES_S)
    never.set()


def test_a_listener_that_failed_is_left_alone_longer_each_time_and_hears_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, asked, heard = 0.0, list[float](), list[str]()
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: now))

    def away_until_100_s(progress: Progress) -> None:
        asked.append(now)
        if now < 100.0:
            raise RuntimeError("away")
        heard.append(progress.message)

    sink = unfailing(away_until_100_s)
    for k in range(1300):
        now = k / 10
        sink(Progress(k / 2000, f"{now:.1f} s"))
    pauses = [round(later - earlier, 1) for earlier, later in itertools.pairwise(asked) if earlier < 100.0]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert heard[0] == "121.5 s"
    assert unfailing(sink) is sink


def test_the_last_report_is_tried_at_once_although_the_listener_has_just_failed() -> None:
    asked: list[float] = []

    def refuse(progress: Progress) -> None:
        asked.append(progress.fraction)
        raise RuntimeError("away")

    sink = unfailing(refuse)
    for fraction in (0.1, 0.2, 1.0):
        sink(Progress(fraction, "at work"))
    assert asked == [0.1, 1.0]
