"""Learns vectors of newcomers by LightFM's WARP while the videos' vectors stay fixed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[np.int64]

DRAWN: Final = 10
"""Videos drawn, at most, until one scores too high beside the liked one: LightFM's default."""
MAX_LOSS: Final = 10.0
"""Where LightFM clips."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenVideos:
    """The fixed videos that newcomers learn from."""

    factors: Vectors
    """(V, d)."""
    biases: Vectors
    """(V,)."""

    def learn(self, tastes: Sequence[tuple[Rows, Vectors]], *, epochs: int, learning_rate: float, seed: int) -> Vectors:
        """Return the newcomers' vectors, (n, d): each takes a step at the same time, with LightFM's Adagrad.

        Args:
            tastes: Rows of liked videos and their weights, of each of n newcomers; weights below 0 count as 0.
            epochs: Passes over what they liked.
            learning_rate: Of Adagrad.
            seed: Of the start and of what is drawn.
        """
        rng = np.random.default_rng(seed)
        dimensions = self.factors.shape[1]
        liked, weights = _table(tastes)
        vectors: Vectors = ((rng.random((len(tastes), dimensions)) - 0.5) / dimensions).astype(np.float32)
        squares = np.ones_like(vectors)
        for _ in range(epochs):
            order = np.where(liked < 0, 2.0, rng.random(liked.shape)).argsort(axis=1)
            for columns in order.T:
                active = np.flatnonzero(liked[np.arange(len(liked)), columns] >= 0)
                drawn = rng.integers(0, len(self.factors), (len(active), DRAWN))
                gradients = self._gradients(vectors[active], liked[active], columns[active], drawn)
                gradients *= weights[active, columns[active], None]
                vectors[active] -= learning_rate / np.sqrt(squares[active]) * gradients
                squares[active] += np.square(gradients)
        vectors[(liked < 0).all(axis=1)] = 0
        return vectors

    def _gradients(self, vectors: Vectors, liked: Rows, columns: Rows, drawn: Rows) -> Vectors:
        """Return the gradients of unweighted steps, (n, d): zero where nothing that was drawn scores too high."""
        each = np.arange(len(vectors))
        positives = liked[each, columns]
        wanted = np.einsum("nd,nd->n", vectors, self.factors[positives]) + self.biases[positives]
        scores = np.einsum("nd,ntd->nt", vectors, self.factors[drawn]) + self.biases[drawn]
        violating = (scores > wanted[:, None] - 1) & ~(drawn[:, :, None] == liked[:, None, :]).any(axis=2)
        first = violating.argmax(axis=1)
        rank = np.maximum(1, (len(self.factors) - 1) // (first + 1))
        loss = np.where(violating.any(axis=1), np.minimum(np.log(rank), MAX_LOSS), 0).astype(np.float32)
        gradients: Vectors = loss[:, None] * (self.factors[drawn[each, first]] - self.factors[positives])
        return gradients


def _table(tastes: Sequence[tuple[Rows, Vectors]]) -> tuple[Rows, Vectors]:
    """Return liked videos and weights as (n, most) arrays, -1 where there is none."""
    liked = np.full((len(tastes), max(len(rows) for rows, _ in tastes)), -1, np.int64)
    weights = np.zeros(liked.shape, np.float32)
    for place, (rows, masses) in enumerate(tastes):
        liked[place, : len(rows)], weights[place, : len(rows)] = rows, np.maximum(masses, 0)
    return liked, weights
