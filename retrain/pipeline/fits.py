"""Fits a model in time order, and keeps long fits on disk, so that the run after a killed one resumes there."""

import math
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from retrain.data.prepare import Interactions, Pairs, Positives
from retrain.embeddings import Embeddings
from retrain.evaluation.held_out_day import HeldOutDay
from retrain.pipeline.observer import RunObserver
from retrain.pipeline.progress_bar import Progress
from retrain.recipe import method_digest
from retrain.report.data import Epoch
from retrain.settings import RetrainSettings
from retrain.training.checkpoint import MANIFEST, Checkpoint, CheckpointError, Description, read, write
from retrain.training.lightfm_trainer import Trainer
from retrain.training.serving_vectors import served, spread_ratio

logger = structlog.get_logger("retrain")

DAY: Final = timedelta(days=1)
UNPUBLISHED: Final = "unpublished"
KEPT: Final = "retrain-fits"
WATCHED: Final = 500
"""Users that epochs are judged by."""
LOOKS: Final = 5
"""Epochs of a fit, at most, that are judged."""
SAMPLE: Final = 5000
"""Users, at most, that tell how far scores are spread."""
KEPT_FROM: Final = 25
"""A fit is kept when it took so many times as long as it takes to write."""
WRITTEN_PER_S: Final = 3e8
"""Bytes, digests among it."""
KEPT_S: Final = 2 * 86_400.0
"""Fits of a killed run that nobody took up are removed after two days."""


class Fits:
    """A trainer, and the time up to which it has learnt.

    Args:
        settings: How it learns.
        interactions: What it learns from.
        progress: Shows how far a fit is.
        observer: Is told how long fits take, and how good epochs are.
        start: What to go on from; None to begin from nothing.
        kept: Folder for fits that are done, of this input and method and start alone; None keeps none.
    """

    def __init__(
        self,
        settings: RetrainSettings,
        interactions: Interactions,
        *,
        progress: Progress,
        observer: RunObserver,
        start: Checkpoint | None = None,
        kept: Path | None = None,
    ) -> None:
        self._settings, self._interactions = settings, interactions
        self._progress, self._observer = progress, observer
        self._kept = kept
        self._trainer = Trainer(settings.hyperparameters())
        self._epochs = settings.epochs(warm=start is not None)
        self._replayed = settings.retrain_replayed_share if start else 0.0
        self._until: datetime | None = None
        self._day: tuple[datetime, HeldOutDay] | None = None
        self._full_fit_until = start.description.full_fit_until if start else None
        if start:
            self._restore(start)

    @property
    def until(self) -> datetime | None:
        """Return the first instant not learnt from, None if nothing was learnt."""
        return self._until

    def fit(self, title: str, until: datetime, *, watched: datetime | None = None) -> bool:
        """Learn from the positives by an instant; return whether there were any.

        Args:
            title: Names the fit, for people and where it is kept.
            until: The instant; later than that of the fit before.
            watched: Record how good LightFM alone is after some epochs, on the day that begins at this instant.
        """
        if self.resume(title):
            return True
        positives = self._interactions.positives(until, half_life=self._settings.half_life())
        if not len(positives):
            return False
        begin = time.monotonic()
        with self._observer.stage("fit"):
            self._learn(title, positives, until, watched=watched)
            if time.monotonic() - begin > KEPT_FROM * self._trainer.state().size / WRITTEN_PER_S:
                self._keep(title)
        logger.info("fit.done", fit=title, positives=len(positives), seconds=round(time.monotonic() - begin, 1))
        return True

    def resume(self, title: str) -> bool:
        """Resume from a fit that a killed run has kept; return whether there was one."""
        if self._kept is None or not (self._kept / title / MANIFEST).is_file():
            return False
        try:
            self._restore(read(self._kept / title))
        except CheckpointError as error:
            logger.warning("fit.not_resumed", fit=title, problem=str(error))
            shutil.rmtree(self._kept / title, ignore_errors=True)
            return False
        logger.info("fit.resumed", fit=title)
        return True

    def representations(self) -> Embeddings:
        """Return the representations to serve, of all users and videos."""
        counts = self._interactions.counts
        return self._served(self._trainer.representations((counts.users, counts.videos)))

    def representations_of(self, users: NDArray[np.integer]) -> Embeddings:
        """Return the representations to serve, of some users, given by their rows, ascending: there are many more."""
        return self._served(self._trainer.representations_of(users, self._interactions.counts.videos))

    def _served(self, learnt: Embeddings) -> Embeddings:
        settings = self._settings
        return served(
            learnt,
            self._tastes(learnt.users),
            scale=self._scale(),
            recent_share=settings.retrain_recent_share,
            bias_share=settings.retrain_bias_share,
        )

    def _scale(self) -> float:
        """Return the scale of means of users' last likes, from a sample of the users."""
        learnt = self._trainer.users
        if not len(learnt) or not self._settings.retrain_recent_share:
            return 1.0
        places = np.unique(np.linspace(0, len(learnt) - 1, SAMPLE, dtype=np.int64))
        some = self._trainer.representations_of(learnt[places], self._interactions.counts.videos)
        return spread_ratio(some, self._tastes(some.users))

    def _tastes(self, users: NDArray[np.integer] | None) -> Positives:
        settings = self._settings
        return self._interactions.tastes(
            self._learnt_until(),
            half_life=settings.half_life(),
            half_life_places=settings.retrain_recent_half_life,
            users=users,
        )

    def held_out(self, since: datetime) -> HeldOutDay:
        """Return the day that begins at an instant, with the knowledge before it."""
        if self._day is None or self._day[0] != since:
            self._day = (since, self.part_of_day(since, since + DAY))
        return self._day[1]

    def part_of_day(self, since: datetime, until: datetime) -> HeldOutDay:
        """Return a part of a day, with the knowledge before it."""
        self._day = None  # it takes about as much memory
        return HeldOutDay.build(
            self._interactions.targets(since, until),
            self._interactions.seen(since),
            self._interactions.popularity(since, half_life=self._settings.popularity_half_life()),
            most_users=self._settings.retrain_evaluation_users,
            seed=self._settings.retrain_seed,
        )

    def checkpoint(self, version: str, popularity_weight: float) -> Checkpoint:
        """Return the state after the last fit; there must be one.

        Args:
            version: The model that is published with it.
            popularity_weight: What the model is served with.
        """
        until = self._learnt_until()
        description = Description(
            version=version,
            method=method_digest(self._settings.method()),
            factors=self._settings.retrain_factors,
            data_until=until,
            full_fit_until=self._full_fit_until or until,
            popularity_weight=popularity_weight,
        )
        return Checkpoint.of(
            description, self._trainer.state(), self._interactions.users(), self._interactions.videos()
        )

    def _learnt_until(self) -> datetime:
        if self._until is None:
            raise ValueError("nothing was learnt yet")
        return self._until

    def _learn(self, title: str, positives: Positives, until: datetime, *, watched: datetime | None) -> None:
        """Run passes over all positives at first, later over the new ones.

        A run that goes on from another one replays a little of everything as well: else nights in a row would forget.
        """
        count = self._epochs
        epochs = self._progress.epochs(title, count)
        if watched:
            day = self.held_out(watched).sample(WATCHED, seed=self._settings.retrain_seed)
            epochs = self._watched(title, day, epochs, range(count - 1, -1, -math.ceil(count / LOOKS)))
        fresh = _among(positives.pairs, self._interactions.fresh(self._until, until)) if self._until else None
        self._trainer.fit(positives, epochs, fresh=fresh, replayed=self._replayed)
        self._until = until

    def _watched(self, title: str, day: HeldOutDay, epochs: Iterator[int], judged: Collection[int]) -> Iterator[int]:
        """Yield the epochs, and evaluate some of them when the next one is requested."""
        for epoch in epochs:
            yield epoch
            if len(day.users) and epoch in judged:
                learnt = self._trainer.representations_of(day.users, self._interactions.counts.videos)
                ndcg = day.judge(learnt.scores, threads=self._settings.retrain_threads)[0].ndcg
                self._observer.note(Epoch(fit=title, epoch=epoch + 1, ndcg=ndcg))

    def _restore(self, checkpoint: Checkpoint) -> None:
        self._trainer.restore(checkpoint.state_in(self._interactions.users(), self._interactions.videos()))
        self._until = checkpoint.description.data_until

    def _keep(self, title: str) -> None:
        """Write the state for the run that takes over from this one."""
        if self._kept is None:
            return
        try:
            self._write(title, self._kept)
        except OSError as error:  # it only saves time, to somebody else
            logger.warning("fit.not_kept", fit=title, problem=str(error))

    def _write(self, title: str, parent: Path) -> None:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".", dir=parent))
        try:
            write(self.checkpoint(UNPUBLISHED, 0.0), folder)
            folder.rename(parent / title)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def kept_folder(parent: Path) -> Path:
    """Return the folder of fits that are kept until their run ends, after removing abandoned ones."""
    folder = parent / KEPT
    for old in folder.glob("*"):
        if time.time() - old.stat().st_mtime > KEPT_S:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _among(pairs: Pairs, wanted: Pairs) -> NDArray[np.bool_]:
    """Return which of the pairs are among the wanted ones."""
    if not len(wanted):
        return np.zeros(len(pairs), np.bool_)
    span = int(max(pairs.videos.max(initial=0), wanted.videos.max(initial=0))) + 1
    keys, searched = (one.users.astype(np.int64) * span + one.videos for one in (pairs, wanted))
    places = np.minimum(np.searchsorted(searched, keys), len(searched) - 1)
    among: NDArray[np.bool_] = searched[places] == keys
    return among
