"""Defines the results of each stage of a run."""

from dataclasses import dataclass
from pathlib import Path

from modelstore.artefact import Manifest, Model
from retrain.data.day_facts import DayFacts
from retrain.data.prepare import Interactions
from retrain.embeddings import Embeddings
from retrain.evaluation.held_out_day import Evaluation
from retrain.publishing.publish import Publication
from retrain.training.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkIdentity:
    """The identity of a run's work, known before the work begins."""

    input_digest: str
    """Of the input, the settings and the method."""
    parent: str | None
    """The version that is live; None where there is none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFindings:
    """The gate's findings in prepared data."""

    days: tuple[DayFacts, ...]
    """Oldest first."""
    problems: tuple[str, ...]
    """Why they should not be trained on, one reason each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """A fit on everything before the last day, with its quality on that day."""

    candidate: Embeddings
    """Of the day's users."""
    evaluation: Evaluation


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """The result of training."""

    representations: Embeddings
    popularity_weight: float
    evaluation: Evaluation | None
    """None where there is no day to hold out, or nothing to judge on it."""
    checkpoint: Checkpoint
    """The state after all fits, of a model that has no name yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Learnt:
    """A model that is ready to be written, with its inputs."""

    interactions: Interactions
    trained: Trained
    model: Model


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenModel:
    """A model on disk, verified."""

    manifest: Manifest
    folder: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The result of a run."""

    publication: Publication
    interactions: Interactions | None
    """None where the same work had been published before."""
    evaluation: Evaluation | None
