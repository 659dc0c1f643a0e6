"""Records the results of a run's stages and their durations, for the log of runs, the report and metrics.

Stages only write here. What a later stage needs it gets from the earlier one's result, and never from here: a run that
fails is reported with what was noted by then.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, TypeAlias

from retrain.data.day_facts import DayFacts
from retrain.data.prepare import Counts
from retrain.evaluation.held_out_day import Evaluation
from retrain.gates.quality_gate import Verdict
from retrain.gates.smoke_test import Smoke
from retrain.pipeline.results import DataFindings, Judged, WorkIdentity
from retrain.report.data import LIVE, Epoch, Showcase


@dataclass(frozen=True, slots=True)
class FitsBegun:
    """Fits begin, for the first time or again in another way: the epochs of earlier ones are void."""


@dataclass(frozen=True, slots=True)
class Named:
    """The run has a version, new or found."""

    version: str


@dataclass(frozen=True, slots=True)
class Undone:
    """An optional step failed."""

    step: str
    """`checkpoint`, `report`, `showcase`, `summary` or `prune`."""


NotedOfFits: TypeAlias = FitsBegun | Epoch | Judged | Verdict
NotedOfData: TypeAlias = Counts | DataFindings | Showcase
Noted: TypeAlias = WorkIdentity | NotedOfData | NotedOfFits | Named | Smoke | Undone


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFindings:
    """The findings of a run so far."""

    stage_seconds: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """How long each stage took, in the order of their begin; also the one in which the run failed."""
    work: WorkIdentity | None = None
    counts: Counts | None = None
    days: tuple[DayFacts, ...] = ()
    """Oldest first."""
    data_problems: tuple[str, ...] | None = None
    """What the gate found in the data; None before it looked."""
    epochs: tuple[Epoch, ...] = ()
    """Quality after each epoch that was looked at."""
    evaluation: Evaluation | None = None
    verdict: Verdict | None = None
    showcase: Showcase | None = None
    """Pages of the held-out day to look at."""
    smoke: Smoke | None = None
    version: str | None = None
    undone: tuple[str, ...] = ()
    """Steps that failed, and that a run can do without."""

    @property
    def input_digest(self) -> str:
        """Return the digest of the input, the settings and the method; empty before it is known."""
        return self.work.input_digest if self.work else ""

    @property
    def parent(self) -> str | None:
        """Return the version that was live before."""
        return self.work.parent if self.work else None

    def quality(self) -> dict[str, float]:
        """Return the candidate's quality by name."""
        found = self.evaluation.metrics() if self.evaluation else {}
        for comparison in self.verdict.comparisons if self.verdict else ():
            found[f"{comparison.rival}.difference"] = comparison.difference.mean
            if comparison.rival == LIVE:
                found["live.ndcg@20"] = comparison.ndcg
        return found


_NOTHING: Final = RunFindings()


class RunObserver:
    """Observes one run.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: dict[str, float] = {}
        self._found = _NOTHING

    @property
    def findings(self) -> RunFindings:
        """Return the findings so far."""
        return replace(self._found, stage_seconds=MappingProxyType(dict(self._seconds)))

    def note(self, result: Noted) -> None:
        """Record a finding of a stage."""
        self._found = _with(self._found, result)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage; a repeated one adds to its time."""
        begin = self._clock()
        self._seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._seconds[name] += self._clock() - begin


def _with(found: RunFindings, result: Noted) -> RunFindings:
    match result:
        case WorkIdentity():
            return replace(found, work=result)
        case Named():
            return replace(found, version=result.version)
        case Smoke():
            return replace(found, smoke=result)
        case Undone():
            return replace(found, undone=(*found.undone, result.step))
        case Counts() | DataFindings() | Showcase():
            return _with_data(found, result)
        case _:
            return _with_fits(found, result)


def _with_data(found: RunFindings, result: NotedOfData) -> RunFindings:
    match result:
        case Counts():
            return replace(found, counts=result)
        case DataFindings():
            return replace(found, days=result.days, data_problems=result.problems)
        case Showcase():
            return replace(found, showcase=result)


def _with_fits(found: RunFindings, result: NotedOfFits) -> RunFindings:
    match result:
        case FitsBegun():
            return replace(found, epochs=())
        case Epoch():
            return replace(found, epochs=(*found.epochs, result))
        case Judged():  # of other fits than an earlier verdict
            return replace(found, evaluation=result.evaluation, verdict=None)
        case Verdict():
            return replace(found, verdict=found.verdict + result if found.verdict else result)
