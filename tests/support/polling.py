"""Waiting for something that another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(probe: Callable[[], T], *, timeout_s: float = 30, interval_s: float = 0.02, what: str = "") -> T:
    """Call the probe until it returns something true, and return that; AssertionError when the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or probe} did not come true within {timeout_s:g} s; last: {found!r}")
        time.sleep(interval_s)
