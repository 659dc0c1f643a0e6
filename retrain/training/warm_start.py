"""Chooses the start of a night's fit: the newest compatible checkpoint, or nothing."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from retrain.data.exports import Window, midnight
from retrain.recipe import method_digest
from retrain.settings import RetrainSettings
from retrain.training.checkpoint import CheckpointError, Description
from retrain.training.checkpoint_store import CheckpointStore


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmStart:
    """The choice of the warm start, and of its checkpoint."""

    checkpoint: Description | None
    """The newest that could be gone on from; None for none."""
    is_wanted: bool
    """False for a fit from nothing."""
    reason: str
    """Why, in words for people."""


COLD: Final = WarmStart(checkpoint=None, is_wanted=False, reason="a full fit was asked for")


@dataclass(frozen=True, kw_only=True, slots=True)
class Compatibility:
    """The requirements on a checkpoint."""

    method: str
    """Digest of the settings and code."""
    held_out: datetime
    """Beginning of the held-out day: it must not have learnt from what came later."""
    until: datetime
    """End of the data."""
    full_fit_every: timedelta
    """Time from one fit from nothing to the next."""
    enabled: bool = True

    @classmethod
    def of(cls, settings: RetrainSettings, window: Window) -> "Compatibility":
        """Return the requirements of a run."""
        return cls(
            method=method_digest(settings.method()),
            held_out=midnight(window.last),
            until=window.until,
            full_fit_every=timedelta(days=settings.retrain_full_fit_days),
            enabled=settings.retrain_warm_start,
        )


def choose(store: CheckpointStore, models: Collection[str], terms: Compatibility) -> WarmStart:
    """Return the checkpoint to resume from, or none.

    Args:
        store: The checkpoints.
        models: Published versions: the checkpoint of a model that is gone does not count.
        terms: The requirements on the checkpoint.
    """
    if not terms.enabled:
        return COLD
    problems = []
    for version in store.versions():
        try:
            description = store.describe(version)
        except CheckpointError as error:
            problems.append(f"the checkpoint of {version}: {error}")
            continue
        problem = _problem(description, models, terms)
        if not problem:
            return _decided(description, terms)
        problems.append(problem)
    return WarmStart(
        checkpoint=None, is_wanted=False, reason=problems[0] if problems else "there is no checkpoint to go on from"
    )


def _problem(found: Description, models: Collection[str], terms: Compatibility) -> str:
    """Return why a checkpoint is not compatible, or an empty text."""
    if found.version not in models:
        return f"the model of the checkpoint {found.version} is gone"
    if found.method != terms.method:
        return f"{found.version} was trained with other settings or another version of the code"
    if found.data_until > terms.held_out:
        return f"{found.version} has learnt from the day that is held out, {terms.held_out.date()}"
    return ""


def _decided(found: Description, terms: Compatibility) -> WarmStart:
    age = terms.until - found.full_fit_until
    if age >= terms.full_fit_every:
        reason = f"the last full fit was {age.days} days of data ago, and one is due every {terms.full_fit_every.days}"
        return WarmStart(checkpoint=found, is_wanted=False, reason=reason)
    return WarmStart(checkpoint=found, is_wanted=True, reason=f"going on from {found.version}")
