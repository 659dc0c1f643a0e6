"""A run as it is kept."""

from datetime import date
from enum import StrEnum
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict


class State(StrEnum):
    """How far a run is."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    """It published, or found its work done."""
    REJECTED = "rejected"
    """The gate ended it."""
    FAILED = "failed"


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
