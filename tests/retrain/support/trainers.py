"""Small fits of LightFM."""

from typing import Final

import numpy as np

from retrain.data.prepare import Pairs, Positives
from retrain.hyperparameters import Hyperparameters
from retrain.training.lightfm_trainer import Trainer

PARAMETERS: Final = Hyperparameters(loss="warp", factors=8, learning_rate=0.05, threads=1, seed=3)
USERS, VIDEOS = 30, 40


def positives(*, users: range = range(USERS), videos: range = range(VIDEOS), seed: int = 0) -> Positives:
    """Return random positives that touch every one of the users and videos."""
    random = np.random.default_rng(seed)
    chosen = random.random((len(users), len(videos))) < 0.2
    chosen[np.arange(len(users)), np.arange(len(users)) % len(videos)] = True
    chosen[np.arange(len(videos)) % len(users), np.arange(len(videos))] = True
    rows, columns = np.nonzero(chosen)
    pairs = Pairs(users=(rows + users.start).astype(np.int32), videos=(columns + videos.start).astype(np.int32))
    return Positives(pairs=pairs, weights=random.uniform(0.1, 3, len(rows)).astype(np.float32))


def trained(*parts: Positives, epochs: int = 3) -> Trainer:
    trainer = Trainer(PARAMETERS)
    for part in parts:
        trainer.fit(part, range(epochs))
    return trainer
