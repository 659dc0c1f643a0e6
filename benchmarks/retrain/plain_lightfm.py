"""Fits LightFM itself from nothing, with the parameters, passes and weights of a run, for comparison."""

from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.sparse as sp
from lightfm import LightFM

from retrain.data.prepare import Positives
from retrain.settings import RetrainSettings


def plain_fit(positives: Positives, settings: RetrainSettings) -> Callable[[], object]:
    """Return a function that fits these positives."""
    users, rows = np.unique(positives.pairs.users, return_inverse=True)
    videos, columns = np.unique(positives.pairs.videos, return_inverse=True)
    place, shape = (rows.astype(np.int32), columns.astype(np.int32)), (len(users), len(videos))
    model = LightFM(
        no_components=settings.retrain_factors,
        loss=settings.retrain_loss,
        learning_rate=settings.retrain_learning_rate,
        random_state=settings.retrain_seed,
    )
    return partial(
        model.fit,
        sp.coo_matrix((np.ones(len(positives), np.float32), place), shape),
        sample_weight=sp.coo_matrix((positives.weights, place), shape),
        epochs=settings.retrain_epochs,
        num_threads=settings.retrain_threads,
    )
