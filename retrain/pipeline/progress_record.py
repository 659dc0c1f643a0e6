"""What is known of a run so far, whatever its end: for metrics, the log of runs, and reports."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

from retrain.data.day_facts import DayFacts
from retrain.data.prepare import Counts
from retrain.evaluation.held_out_day import Evaluation
from retrain.gates.quality_gate import Verdict
from retrain.gates.smoke_test import Smoke
from retrain.report.data import Epoch, Showcase


@dataclass(kw_only=True, slots=True)
class RunProgress:
    """Is filled in as a run goes on."""

    clock: Callable[[], float] = time.monotonic
    """Seconds."""
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """How long each stage took, in the order of their begin; also the one in which the run failed."""
    run_date: date | None = None
    """The last day that is trained on."""
    input_digest: str = ""
    """Of the input, the settings and the code."""
    counts: Counts | None = None
    days: tuple[DayFacts, ...] = ()
    """Oldest first."""
    data_problems: tuple[str, ...] | None = None
    """What the gate found in the data; None before it looked."""
    epochs: list[Epoch] = field(default_factory=list)
    """Quality after each epoch that was looked at."""
    evaluation: Evaluation | None = None
    verdict: Verdict | None = None
    showcase: Showcase | None = None
    """Pages of the held-out day to look at."""
    smoke: Smoke | None = None
    version: str | None = None
    parent: str | None = None
    """The version that was live before."""
    undone: list[str] = field(default_factory=list)
    """Steps that failed, and that a run can do without: `checkpoint`, `report`, `showcase`, `summary`, `prune`."""

    def quality(self) -> dict[str, float]:
        """Return the numbers that tell how good the candidate is, by name."""
        found = self.evaluation.metrics() if self.evaluation else {}
        for comparison in self.verdict.comparisons if self.verdict else ():
            found[f"{comparison.rival}.difference"] = comparison.difference.mean
            if comparison.rival == "live":
                found["live.ndcg@20"] = comparison.ndcg
        return found

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; the same one again adds to it."""
        begin = self.clock()
        self.stage_seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.stage_seconds[name] += self.clock() - begin
