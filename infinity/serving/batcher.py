"""Join waiting pictures into batches: those of one shape and settings run together, the oldest first.

One thread computes. A picture's random numbers are its own (decision 11), so which others share its batch changes no
bit but those that rounding decides.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from infinity.serving.settings import ServingLimits

Compute = Callable[[Sequence["QueuedPicture"]], Sequence[Any]]
"""Function that computes a batch: one result per picture, in order. It runs in a thread of its own."""


class BusyError(Exception):
    """Too many pictures wait; the client shall come again after ``retry_after_s`` seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the server is busy; try again in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(eq=False)
class QueuedPicture:
    """A picture that waits or is computed.

    Attributes:
        key: Pictures with equal keys may share a batch.
        on_scale: Callback of the computing thread for previews; None where nobody looks.
        is_cancelled: Whether the client is gone; such a picture is not begun.
    """

    key: Hashable
    work: Any
    on_scale: Callable[[int, int, Any], None] | None = None
    is_cancelled: bool = False
    result: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    since: float = field(default_factory=time.monotonic)


class Batcher:
    """A bounded queue of pictures, and the task that computes them in batches.

    Attributes:
        waiting: Pictures that wait, oldest first.
        running: Pictures in the present batch.
        seconds_each: Smoothed seconds per picture, for ``Retry-After``.
    """

    def __init__(self, compute: Compute, limits: ServingLimits, observe: Callable[[int, float], None]) -> None:
        """Start empty.

        Args:
            compute: Function that computes a batch.
            limits: Bounds of the queue and of a batch.
            observe: Called after each batch with its pictures and seconds.
        """
        self._compute, self._limits, self._observe = compute, limits, observe
        self.waiting: list[QueuedPicture] = []
        self.running = 0
        self.seconds_each = 0.5
        self._began = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drawing")
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, pictures: Sequence[QueuedPicture]) -> None:
        """Queue all pictures of a request, or none.

        Raises:
            BusyError: There is no room for all.
        """
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        if len(self.waiting) + len(pictures) > self._limits.max_waiting:
            raise BusyError(self._seconds_until_room_for(len(pictures)))
        self.waiting.extend(pictures)
        self._news.set()

    def _seconds_until_room_for(self, count: int) -> int:
        """Return about how many seconds it takes until the queue has room for more pictures."""
        # A batch that is overdue by x seconds may well need as many more.
        left = abs(self.running * self.seconds_each - (time.monotonic() - self._began)) if self.running else 0.0
        leaving = len(self.waiting) + count - self._limits.max_waiting
        return max(1, math.ceil(left + (leaving - 1) * self.seconds_each))

    def cancel(self, pictures: Sequence[QueuedPicture]) -> None:
        """Forget pictures whose client is gone; a batch that has begun is finished."""
        for picture in pictures:
            picture.is_cancelled = True
            picture.result.cancel()
        self.waiting = [picture for picture in self.waiting if not picture.is_cancelled]

    async def close(self) -> None:
        """Stop; pictures that wait are cancelled."""
        self.cancel(self.waiting)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._news.wait()
            self._news.clear()
            while self.waiting:
                batch = await self._next_batch()
                if not batch:
                    continue
                self.running, self._began = len(batch), time.monotonic()
                try:
                    results = await loop.run_in_executor(self._thread, self._compute, batch)
                except Exception as error:  # told to each client of the batch; the server goes on
                    results = [error] * len(batch)
                self._finish(batch, results, time.monotonic() - self._began)

    async def _next_batch(self) -> list[QueuedPicture]:
        """Wait a moment for pictures that go with the oldest, and take them from the queue."""
        key, until = self.waiting[0].key, self.waiting[0].since + self._limits.batch_wait_s
        while (left := until - time.monotonic()) > 0 and self._matching(key) < self._limits.max_batch:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                break
        batch = [picture for picture in self.waiting if picture.key == key][: self._limits.max_batch]
        taken = set(map(id, batch))
        self.waiting = [picture for picture in self.waiting if id(picture) not in taken]
        return batch

    def _matching(self, key: Hashable) -> int:
        return sum(picture.key == key for picture in self.waiting)

    def _finish(self, batch: Sequence[QueuedPicture], results: Sequence[Any], seconds: float) -> None:
        self.running = 0
        self.seconds_each = 0.8 * self.seconds_each + 0.2 * seconds / len(batch)
        self._observe(len(batch), seconds)
        for picture, result in zip(batch, results, strict=True):
            if picture.result.done():
                continue
            if isinstance(result, Exception):
                picture.result.set_exception(result)
            else:
                picture.result.set_result(result)
