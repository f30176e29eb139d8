"""The queue: limits that can be met, and a time to come back at which there is room."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence

import pytest

from infinity.serving.batcher import Batcher, BusyError, QueuedPicture
from infinity.serving.inputs import picture_request
from infinity.serving.refusal import RefusedError
from infinity.serving.settings import ServingConfig, ServingLimits


@pytest.mark.parametrize(("images", "waiting"), [(10, 3), (3, 10), (1, 1)])
def test_a_request_that_the_empty_queue_could_not_hold_is_refused_for_good(images: int, waiting: int) -> None:
    limits = ServingLimits(max_images=images, max_waiting=waiting)
    config, most = ServingConfig(model="m", limits=limits), min(images, waiting)
    assert len(picture_request({"prompt": "a", "n": most}, config, edits=False).seeds) == most
    with pytest.raises(RefusedError, match=f"n: expected .*{most}$") as refused:
        picture_request({"prompt": "a", "n": most + 1}, config, edits=False)
    assert refused.value.status == 400


async def _busy(*, waiting: int, wanted: int, seconds_each: float, began_s_ago: float = 0.0) -> int:
    """Return what a client is told whose pictures find no room beside those that wait, while two are drawn."""
    go = threading.Event()

    def compute(batch: Sequence[QueuedPicture]) -> list[int]:
        go.wait()
        return [0] * len(batch)

    batcher = Batcher(compute, ServingLimits(max_waiting=8, max_batch=2, batch_wait_s=0), lambda *_: None)
    batcher.seconds_each = seconds_each
    pictures = [QueuedPicture("key", None) for _ in range(2)]
    batcher.add(pictures)
    while not batcher.running:
        await asyncio.sleep(0)
    batcher._began = time.monotonic() - began_s_ago
    batcher.add([QueuedPicture("key", None) for _ in range(waiting)])
    try:
        with pytest.raises(BusyError) as busy:
            batcher.add([QueuedPicture("key", None) for _ in range(wanted)])
    finally:
        go.set()
        await batcher.close()
    return busy.value.retry_after_s


def test_a_client_is_told_to_come_back_when_there_will_be_room() -> None:
    assert asyncio.run(_busy(waiting=8, wanted=1, seconds_each=1000.0)) == pytest.approx(2000, abs=60)
    assert asyncio.run(_busy(waiting=8, wanted=4, seconds_each=1000.0)) == pytest.approx(5000, abs=60)
    assert asyncio.run(_busy(waiting=6, wanted=4, seconds_each=1000.0)) == pytest.approx(3000, abs=60)


def test_a_batch_that_is_overdue_is_not_said_to_end_at_once() -> None:
    found = asyncio.run(_busy(waiting=8, wanted=1, seconds_each=0.001, began_s_ago=5000.0))
    assert found == pytest.approx(5000, abs=60)


def test_the_shortest_time_is_a_second() -> None:
    assert asyncio.run(_busy(waiting=8, wanted=1, seconds_each=0.0)) >= 1
