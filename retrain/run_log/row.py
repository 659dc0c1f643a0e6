"""Defines the row of a run in the log of runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Self, TypedDict, Unpack
from uuid import UUID, uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict

from retrain.errors import Reason


class State(StrEnum):
    """States of a run."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    """It published, or found its work done."""
    REJECTED = "rejected"
    """The gate ended it."""
    FAILED = "failed"


class RunChange(TypedDict, total=False):
    """Changes of a run's row after its begin, by the names of its columns."""

    run_date: date | None
    input_digest: str
    state: State
    heartbeat_at: datetime
    ended_at: datetime
    interactions: int | None
    version: str | None
    reason: str | None
    message: str | None
    stage_seconds: dict[str, float]
    quality: dict[str, float]
    logged_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFigures:
    """The figures of a run at its end, whatever its end."""

    input_digest: str = ""
    interactions: int | None = None
    version: str | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)


class RunRow(BaseModel):
    """A row of `retrain_runs`."""

    model_config = ConfigDict(frozen=True)

    run_id: UUID
    run_date: date | None = None
    """The last day that is trained on; None before it is known."""
    input_digest: str = ""
    state: State = State.RUNNING
    started_at: AwareDatetime
    heartbeat_at: AwareDatetime
    ended_at: AwareDatetime | None = None
    interactions: int | None = None
    version: str | None = None
    reason: str | None = None
    """The tag of the failure."""
    message: str | None = None
    """The failure in one line."""
    stage_seconds: dict[str, float] = {}
    quality: dict[str, float] = {}
    logged_at: AwareDatetime | None = None
    """When it was written to Snowflake."""

    @classmethod
    def begun(cls, run_date: date | None, at: datetime) -> Self:
        """Return a new run.

        Args:
            run_date: The last day that is trained on; None before it is known.
            at: The time.
        """
        return cls(run_id=uuid4(), run_date=run_date, started_at=at, heartbeat_at=at)

    def dated(self, run_date: date, at: datetime) -> Self:
        """Return the row with the day that the run trains on."""
        return self._with(run_date=run_date, heartbeat_at=at)

    def alive(self, at: datetime) -> Self:
        """Return the row of a run that is alive at a time."""
        return self._with(heartbeat_at=at)

    def ended(self, state: State, at: datetime, failure: tuple[Reason, str] | None, figures: RunFigures) -> Self:
        """Return the row of a run that ended by itself.

        Args:
            state: How.
            at: When.
            failure: Why, in a tag and in words; None for a success.
            figures: What it has to show.
        """
        return self._with(
            state=state,
            heartbeat_at=at,
            ended_at=at,
            reason=str(failure[0]) if failure else None,
            message=" ".join(failure[1].split()) if failure else None,
            input_digest=figures.input_digest,
            interactions=figures.interactions,
            version=figures.version,
            stage_seconds={name: round(seconds, 3) for name, seconds in figures.stage_seconds.items()},
            quality=dict(figures.quality),
        )

    def ended_by_others(self, at: datetime, reason: Reason, message: str) -> Self:
        """Return the row of a run that another process found dead: its results are unknown."""
        return self._with(state=State.FAILED, ended_at=at, reason=str(reason), message=message)

    def logged(self, at: datetime) -> Self:
        """Return the row as written to Snowflake."""
        return self._with(logged_at=at)

    def _with(self, **change: Unpack[RunChange]) -> Self:
        return self.model_copy(update=change)
