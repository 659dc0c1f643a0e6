"""Waiting on the event loop for something to come true."""

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], object], *, timeout_s: float = 30) -> None:
    """Return once the condition holds; AssertionError when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)
