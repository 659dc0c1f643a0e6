"""Counts the cores that this process may use."""

import os
from math import ceil
from pathlib import Path
from typing import Final

QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time in each period, and the period, of this container; see cgroup v2."""


def usable_cores(quota: Path = QUOTA) -> int:
    """Return the number of cores that affinity and the container's CPU limit allow."""
    allowed = len(os.sched_getaffinity(0))
    try:
        budget, period = quota.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return allowed
    return allowed if budget == "max" else min(allowed, max(1, ceil(int(budget) / int(period))))
