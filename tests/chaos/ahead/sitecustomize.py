"""Puts the clock of a Python process ahead by CHAOS_AHEAD_S seconds: on the path, Python imports this before all else.

Clocks for waiting are left alone: a machine with a wrong date waits as long as any other.
"""

import datetime as dt
import os
import time

AHEAD_S = float(os.environ.get("CHAOS_AHEAD_S", "0"))
_AHEAD = dt.timedelta(seconds=AHEAD_S)
_time, _time_ns, _datetime = time.time, time.time_ns, dt.datetime


class _Ahead(dt.datetime):
    """Tells another time of day."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> "_Ahead":
        """Return the time of day."""
        return super().now(tz) + _AHEAD


time.time = lambda: _time() + AHEAD_S
time.time_ns = lambda: _time_ns() + int(AHEAD_S * 1e9)
dt.datetime = _Ahead  # type: ignore[misc]  # that is the point
