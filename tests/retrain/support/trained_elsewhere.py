"""Models that LightFM itself has trained, and how they are brought here."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from lightfm import LightFM
from lightfm.data import Dataset

USERS: Final = [f"user {number}" for number in range(30)]


ITEMS: Final = list(range(1000, 1050))
"""Identifiers as many have them: numbers, whose order as texts is another one once they grow."""


TAGS: Final = ["red", "green", "blue"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A LightFM model as its maker has it."""

    model: Any
    dataset: Any
    interactions: Any
    user_features: Any
    item_features: Any

    def predict(self, user: str) -> "np.ndarray[Any, Any]":
        """Return LightFM's scores of all items, in the order of `ITEMS`."""
        users, _, items, _ = self.dataset.mapping()
        rows = np.array([items[item] for item in ITEMS])
        scores: np.ndarray[Any, Any] = self.model.predict(
            users[user], rows, user_features=self.user_features, item_features=self.item_features
        )
        return scores


def train(*, features: bool, identity: bool = True, loss: str = "warp") -> Trained:
    """Fit a model on random interactions, told in shuffled order, with side features or without."""
    rng = np.random.default_rng(3)
    dataset = Dataset(user_identity_features=identity, item_identity_features=identity)
    dataset.fit(
        rng.permutation(USERS).tolist(),
        rng.permutation(ITEMS).tolist(),
        user_features=TAGS if features else None,
        item_features=TAGS if features else None,
    )
    pairs = [(user, int(item)) for user in USERS for item in rng.choice(ITEMS, 8, replace=False)]
    interactions, _ = dataset.build_interactions(pairs)
    user_features = item_features = None
    if features:
        user_features = dataset.build_user_features([(one, rng.choice(TAGS, 2).tolist()) for one in USERS])
        item_features = dataset.build_item_features([(one, rng.choice(TAGS, 1).tolist()) for one in ITEMS])
    model = LightFM(no_components=8, loss=loss, random_state=1)
    model.fit(interactions, user_features=user_features, item_features=item_features, epochs=5)
    return Trained(model, dataset, interactions, user_features, item_features)


def dump(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path
