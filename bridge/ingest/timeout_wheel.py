"""Ends what takes too long, a tick's worth of it by one timer: a timer for each call would cost more than its wait."""

import asyncio
from typing import Any, Final

from bridge.ingest.acknowledgement import NotDurableError

TICK_S: Final = 0.01


class TimeoutWheel:
    """Fails futures that have no result in time, up to a tick early. Belongs to one event loop."""

    def __init__(self) -> None:
        self._ticks: dict[int, list[asyncio.Future[Any]]] = {}

    def watch(self, done: "asyncio.Future[Any]", timeout_s: float) -> None:
        """Give the future NotDurableError unless it is done within the time."""
        loop = done.get_loop()
        tick = int((loop.time() + timeout_s) / TICK_S)
        due = self._ticks.get(tick)
        if due is None:
            due = self._ticks[tick] = []
            loop.call_at(tick * TICK_S, self._expire, tick)
        due.append(done)

    def _expire(self, tick: int) -> None:
        for done in self._ticks.pop(tick):
            if not done.done():
                done.set_exception(NotDurableError("the interaction could not be made durable in time"))
