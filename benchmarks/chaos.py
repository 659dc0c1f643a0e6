"""Runs the feed under nemeses of all kinds (`make chaos`) for CHAOS_SECONDS from CHAOS_SEED; judges latency too."""

from benchmarks import knob
from benchmarks.report import Row
from tests.chaos.__main__ import SECONDS
from tests.chaos.__main__ import run as strike
from tests.chaos.nemeses.kinds import NEMESES

SEED = knob.whole("CHAOS_SEED", 1)
DURATION = knob.number("CHAOS_SECONDS", SECONDS)


def run() -> dict[str, list[Row]]:
    """Return the table of the nemeses, and the promises that were broken."""
    report = strike(NEMESES, seed=SEED, seconds=DURATION, judge=True)
    rows = [strike.row() for strike in report.strikes]
    faults: list[Row] = [{"broken": fault} for fault in report.faults()] or [{"broken": "nothing"}]
    return {f"Chaos, seed {SEED}": rows, "Promises": faults}
