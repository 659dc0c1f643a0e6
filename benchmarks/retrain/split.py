"""Splits the data of a quality benchmark in two: what models know, and what judges them."""

import os
import time
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import scipy.sparse as sp

from retrain.data.prepare import Interactions, Positives
from retrain.embeddings import Embeddings
from retrain.evaluation.held_out_day import HeldOutDay
from retrain.hyperparameters import Hyperparameters
from retrain.pipeline.fits import DAY, Fits
from retrain.pipeline.observer import RunObserver
from retrain.pipeline.progress_bar import Lines
from retrain.pipeline.train import learn_before
from retrain.settings import RetrainSettings
from retrain.training.lightfm_trainer import Trainer

DAYS: Final = timedelta(days=2)
THREADS: Final = len(os.sched_getaffinity(0))


class Split:
    """The data, split in two: what models know, and what judges them.

    Args:
        interactions: All of it.
        cut: End of what is known.
        settings: Half-lives and hyperparameters.
    """

    def __init__(self, interactions: Interactions, cut: datetime, settings: RetrainSettings) -> None:
        self._interactions, self._cut, self._settings = interactions, cut, settings
        self.shape = (interactions.counts.users, interactions.counts.videos)
        self.positives = interactions.positives(cut, half_life=settings.half_life())
        self.watched, self.liked = self._day(watched=True), self._day(watched=False)
        self._learnt: dict[tuple[int, int], Embeddings] = {}
        self.seconds: dict[str, float] = {}

    def lightfm(self, factors: int, epochs: int) -> Embeddings:
        """Return what LightFM learns, its passes compiled."""
        key = (factors, epochs)
        if key not in self._learnt:
            parameters = Hyperparameters(
                loss="warp",
                factors=factors,
                learning_rate=self._settings.retrain_learning_rate,
                threads=THREADS,
                seed=self._settings.retrain_seed,
            )
            trainer = Trainer(parameters)
            begin = time.monotonic()
            trainer.fit(self.positives, range(epochs))
            self.seconds[f"{epochs} epochs, {factors} factors"] = time.monotonic() - begin
            self._learnt[key] = trainer.representations(self.shape)
        return self._learnt[key]

    def as_a_run(self) -> Embeddings:
        """Return what a run would serve, which learns the last two days by themselves."""
        fits = Fits(self._settings, self._interactions, progress=Lines(), observer=RunObserver())
        begin = time.monotonic()
        learn_before(fits, self._cut - DAY)
        fits.fit("final", self._cut)
        self.seconds["as a run"] = time.monotonic() - begin
        return fits.representations()

    def tastes(self, half_life_places: float) -> Positives:
        """Return what users liked last."""
        return self._interactions.tastes(
            self._cut, half_life=self._settings.half_life(), half_life_places=half_life_places
        )

    def matrix(self, weight: float = 1.0) -> Any:
        """Return the positives as a (U, V) matrix, each of the same weight."""
        pairs = self.positives.pairs
        values = np.full(len(pairs), weight, np.float32)
        return sp.csr_matrix((values, (pairs.users, pairs.videos)), self.shape)

    def _day(self, *, watched: bool) -> HeldOutDay:
        return HeldOutDay.build(
            self._interactions.targets(self._cut, self._cut + DAYS, watched=watched),
            self._interactions.seen(self._cut),
            self._interactions.popularity(self._cut, half_life=self._settings.popularity_half_life()),
            most_users=10**9,
            seed=0,
        )
