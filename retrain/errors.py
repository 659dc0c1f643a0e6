"""Defines the ways in which a training run fails."""

from enum import StrEnum


class Reason(StrEnum):
    """Reasons for a failed run; the `reason` tag of `feed.lightfm.retrain.failure`."""

    EXPORTS = "exports"
    """Days that are missing or not complete."""
    SCHEMA = "schema"
    """A file that is not what it should be."""
    DATA = "data"
    """Rows that no model can be trained on."""
    GATE = "gate"
    """Input that is unlike what it was on the days before."""
    QUALITY = "quality"
    """A model that is no better than popularity, or worse than the live one."""
    SMOKE = "smoke"
    """A model whose server does not answer as it should."""
    BUSY = "busy"
    """Another run holds the lock."""
    LOCK = "lock"
    """The lock was lost on the way, or cannot be taken."""
    RUNS = "runs"
    """The log of runs cannot be read or written."""
    KILLED = "killed"
    """The process was told to end, or ended without a word."""
    HUNG = "hung"
    """A run that the schedule ended as it took too long."""
    TRAINING = "training"
    """LightFM cannot run, or diverged."""
    ARTEFACT = "artefact"
    """What was written is not what was trained, or not fit to be served."""
    PUBLISH = "publish"
    """Another publisher won, or left a broken pointer."""
    STORE = "store"
    """A store or disk that cannot be read or written."""
    INTERNAL = "internal"
    """A defect, or a failure that is not foreseen."""


class RunError(Exception):
    """A run that must not publish; the message is one line for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    @property
    def is_rejection(self) -> bool:
        """Return whether a gate ended the run: the live model stays, and the same input would be rejected again."""
        return self.reason in (Reason.GATE, Reason.QUALITY, Reason.SMOKE)

    @property
    def is_input(self) -> bool:
        """Return whether the input is at fault, so that the same input would fail again."""
        return self.reason in (Reason.EXPORTS, Reason.SCHEMA, Reason.DATA)
