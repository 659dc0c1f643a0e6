"""Defines learnt representations of all users and videos, including those that training never saw."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

COLD_BIAS_QUANTILE: Final = 0.05
"""Untrained videos get this quantile of the trained videos' biases."""


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """Factors and biases of U users and V videos; score = user · video + user bias + video bias.

    Those of some users alone have U rows for these, whose rows among all are `users`.
    """

    user_factors: NDArray[np.float32]
    """(U, d); zeros for a user who liked nothing, who is so ranked for like a stranger."""
    user_biases: NDArray[np.float32]
    """(U,)."""
    video_factors: NDArray[np.float32]
    """(V, d); zeros for a video that nobody liked."""
    video_biases: NDArray[np.float32]
    """(V,)."""
    users: NDArray[np.integer] | None = None
    """(U,) ascending; None where these are of all users."""

    @classmethod
    def expand(
        cls, trained: Self, users: NDArray[np.integer], videos: NDArray[np.integer], shape: tuple[int, int]
    ) -> Self:
        """Return the representations of all U users and V videos from those of some.

        What LightFM holds for a row without a positive is its random start, so it is replaced: factors become zero,
        and a video's bias low, so that it ranks behind what is known to be liked, and by popularity among its like.

        Args:
            trained: Representations of the trained ones.
            users: Their rows among all users.
            videos: Their rows among all videos.
            shape: (U, V).
        """
        cold = np.quantile(trained.video_biases, COLD_BIAS_QUANTILE) if len(videos) else 0.0
        return cls(
            user_factors=_spread(trained.user_factors, users, shape[0]),
            user_biases=_spread(trained.user_biases, users, shape[0]),
            video_factors=_spread(trained.video_factors, videos, shape[1]),
            video_biases=_spread(trained.video_biases, videos, shape[1], float(cold)),
        )

    def places(self, users: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return the places of users here by their rows among all; all of them must be among these."""
        return users if self.users is None else np.searchsorted(self.users, users)

    def of(self, users: NDArray[np.integer]) -> Self:
        """Return the representations of some users alone, given by their rows, ascending."""
        places = self.places(users)
        return replace(self, user_factors=self.user_factors[places], user_biases=self.user_biases[places], users=users)

    def scores(self, users: NDArray[np.integer], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the scores of all videos for some users, (len(users), V), in `out` where that is given."""
        places = self.places(users)
        biases = self.user_biases[places]
        vectors = np.column_stack((self.user_factors[places], np.ones_like(biases), biases))
        scores: NDArray[np.float32] = np.matmul(vectors, self._videos.T, out=out)
        return scores

    @cached_property
    def _videos(self) -> NDArray[np.float32]:
        """Return factors and biases side by side, (V, d + 2): their product needs no two further passes."""
        return np.column_stack((self.video_factors, self.video_biases, np.ones_like(self.video_biases)))

    def problem(self) -> str:
        """Return why these representations must not be served, or an empty text."""
        parts = (self.user_factors, self.user_biases, self.video_factors, self.video_biases)
        if not all(np.isfinite(part).all() for part in parts):
            return "representations hold numbers that are not finite"
        if not self.video_factors.any() or not self.user_factors.any():
            return "representations have collapsed to zero"
        return ""


def _spread(
    trained: NDArray[np.float32], rows: NDArray[np.integer], count: int, rest: float = 0.0
) -> NDArray[np.float32]:
    full = np.full((count, *trained.shape[1:]), rest, np.float32)
    full[rows] = trained
    return full
