"""Trains LightFM; no other module imports it.

A `Trainer` is fitted on one matrix after another. Users and videos may come and go between them: those that stay keep
what they have learnt, together with the optimiser's state, so that a day can be added for a fraction of a full fit. Its
`state` is all that another process needs to go on.

WARP draws its negatives evenly from all columns of the matrix. So the matrix holds no column without a positive: such a
video would only ever be pushed down.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

import numpy as np
import scipy.sparse as sp
from lightfm import LightFM
from numpy.typing import NDArray

from retrain.data.prepare import Positives
from retrain.embeddings import Embeddings
from retrain.errors import Reason, RunError
from retrain.hyperparameters import Hyperparameters
from retrain.training import warp_kernel

OPENMP: Final = "lightfm._lightfm_fast_openmp"

_Name: TypeAlias = Literal["user", "item"]

_ARRAYS: Final = (
    "embeddings",
    "embedding_gradients",
    "embedding_momentum",
    "biases",
    "bias_gradients",
    "bias_momentum",
)
"""What LightFM holds for each side of the matrix, in attributes such as `user_embeddings`."""
LEARNT: Final = tuple(f"{side}_{part}" for side in ("user", "item") for part in _ARRAYS if "momentum" not in part)
"""Attributes that change in training: Adagrad has no momentum."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingState:
    """The state that a fit resumes from: another process on one thread of such a machine computes the same bits."""

    users: NDArray[np.int32]
    """Rows of the users that were learnt of, ascending."""
    videos: NDArray[np.int32]
    """Rows of the videos that were learnt of, ascending."""
    arrays: Mapping[str, NDArray[np.float32]]
    """By the names in LEARNT; a row for each of the users or videos."""
    random: NDArray[np.uint32]
    """(625,) the Mersenne twister's words and its position in them."""

    @property
    def size(self) -> int:
        """Return the size in bytes."""
        return sum(array.nbytes for array in self.arrays.values())


class _LightFM(LightFM):  # type: ignore[misc]  # it has no types
    """LightFM with the likes of users apart from a pass's examples, and with compiled passes of WARP.

    LightFM takes both from one matrix, and sorts that anew before each pass.
    """

    liked: sp.csr_matrix
    """What must not be drawn as a negative; sorted."""

    def _get_positives_lookup_matrix(self, interactions: sp.coo_matrix) -> sp.csr_matrix:  # noqa: ARG002
        return self.liked

    def _run_epoch(  # noqa: PLR0917  # LightFM calls it
        self,
        item_features: sp.csr_matrix,
        user_features: sp.csr_matrix,
        interactions: sp.coo_matrix,
        sample_weight: NDArray[np.float32],
        num_threads: int,
        loss: str,
    ) -> None:
        if loss != "warp":
            super()._run_epoch(item_features, user_features, interactions, sample_weight, num_threads, loss)
            return
        warp_kernel.learn(
            warp_kernel.Learner(self._side("user"), self._side("item"), np.float32(self.learning_rate)),
            warp_kernel.Examples(interactions.row, interactions.col, sample_weight),
            warp_kernel.Likes(self.liked.indptr, self.liked.indices),
            most_drawn=self.max_sampled,
            random=self.random_state,
            threads=num_threads,
        )

    def _side(self, name: _Name) -> warp_kernel.Side:
        return warp_kernel.Side(*(getattr(self, f"{name}_{part}") for part in warp_kernel.Side._fields))


class Trainer:
    """A LightFM model in training.

    Args:
        parameters: How it learns.

    Raises:
        RunError: LightFM is to make passes itself, and was built without OpenMP: it would train on one thread without
            a word.
    """

    def __init__(self, parameters: Hyperparameters) -> None:
        if parameters.loss != "warp" and OPENMP not in sys.modules:
            raise RunError(Reason.TRAINING, "LightFM was built without OpenMP; build it with a compiler that has it")
        self.parameters = parameters
        self.model = _LightFM(
            no_components=parameters.factors,
            loss=parameters.loss,
            learning_rate=parameters.learning_rate,
            random_state=parameters.seed,
        )
        self._users = np.empty(0, np.int32)
        self._videos = np.empty(0, np.int32)

    @property
    def users(self) -> NDArray[np.int32]:
        """Return the rows of the learnt users, ascending."""
        return self._users

    @property
    def is_fitted(self) -> bool:
        """Return whether anything was learnt yet."""
        return self.model.user_embeddings is not None

    def fit(
        self,
        positives: Positives,
        epochs: Iterable[int],
        *,
        fresh: NDArray[np.bool_] | None = None,
        replayed: float = 0.0,
    ) -> None:
        """Learn from these positives, resuming from the present state; RunError when the numbers diverge.

        Args:
            positives: At least one; rows mean the same users and videos as in every other call.
            epochs: Is iterated over once, one pass for each element.
            fresh: Which of them every pass learns from; None for all. BPR draws its negatives from what a pass learns
                from, WARP from all videos but those that the user likes, fresh or not.
            replayed: Beside them, as many as this share of all are drawn at random for each pass.
        """
        liked = self.model.liked = self._liked(positives)
        pairs = liked.tocoo(copy=False)
        for _ in epochs:
            chosen = slice(None) if fresh is None else self._drawn(fresh, replayed)
            place = (pairs.row[chosen], pairs.col[chosen])
            matrix, weights = (
                sp.coo_matrix((values[chosen], place), pairs.shape) for values in (pairs.data, positives.weights)
            )
            try:
                self.model.fit_partial(matrix, sample_weight=weights, num_threads=self.parameters.threads)
            except ValueError as error:
                raise RunError(Reason.TRAINING, f"LightFM diverged: {error}") from None

    def state(self) -> TrainingState:
        """Return the present state, not copied: later fits may change it."""
        random = self.model.random_state.get_state(legacy=False)["state"]
        return TrainingState(
            users=self._users,
            videos=self._videos,
            arrays={name: getattr(self.model, name) for name in LEARNT},
            random=np.append(random["key"], np.uint32(random["pos"])).astype(np.uint32),
        )

    def restore(self, state: TrainingState) -> None:
        """Resume from a state of the same factors, in place of the present one; its arrays will change."""
        self._users, self._videos = state.users, state.videos
        for name, array in state.arrays.items():
            setattr(self.model, name, array)
            if name.endswith(("embeddings", "biases")):
                momentum = name.replace("embeddings", "embedding").replace("biases", "bias") + "_momentum"
                setattr(self.model, momentum, np.zeros_like(array))
        self.model.random_state.set_state(("MT19937", state.random[:-1], int(state.random[-1])))

    def representations(self, shape: tuple[int, int]) -> Embeddings:
        """Return the learnt representations of all U users and V videos."""
        trained = Embeddings(
            user_factors=self.model.user_embeddings,
            user_biases=self.model.user_biases,
            video_factors=self.model.item_embeddings,
            video_biases=self.model.item_biases,
        )
        return Embeddings.expand(trained, self._users, self._videos, shape)

    def representations_of(self, users: NDArray[np.integer], video_count: int) -> Embeddings:
        """Return the learnt representations of some users, given by their rows, ascending, and of all V videos."""
        known = np.isin(users, self._users)
        places = np.searchsorted(self._users, users[known])
        trained = Embeddings(
            user_factors=self.model.user_embeddings[places],
            user_biases=self.model.user_biases[places],
            video_factors=self.model.item_embeddings,
            video_biases=self.model.item_biases,
        )
        found = Embeddings.expand(trained, np.flatnonzero(known), self._videos, (len(users), video_count))
        return replace(found, users=users)

    def _drawn(self, fresh: NDArray[np.bool_], replayed: float) -> NDArray[np.int64]:
        """Return the places of the fresh positives, and of a random share of all."""
        drawn = self.model.random_state.randint(len(fresh), size=round(replayed * len(fresh)))
        return np.concatenate((np.flatnonzero(fresh), drawn))

    def _liked(self, positives: Positives) -> sp.csr_matrix:
        """Return the positives as a matrix of the rows and columns that have any."""
        counts, showings = np.bincount(positives.pairs.users), np.bincount(positives.pairs.videos)
        users, videos = (np.flatnonzero(found).astype(np.int32) for found in (counts, showings))
        columns = np.cumsum(showings > 0, dtype=np.int32)[positives.pairs.videos] - 1
        if self.is_fitted:
            self._resize("user", self._users, users)
            self._resize("item", self._videos, videos)
        self._users, self._videos = users, videos
        ones = np.ones(len(positives), np.float32)
        offsets = np.concatenate(([0], np.cumsum(counts[users])))
        return sp.csr_matrix((ones, columns, offsets), (len(users), len(videos)))

    def _resize(self, side: _Name, old: NDArray[np.int32], new: NDArray[np.int32]) -> None:
        """Keep the arrays of remaining rows, and start new rows as LightFM starts them."""
        if np.array_equal(old, new):
            return
        _, kept_from, kept_to = np.intersect1d(old, new, assume_unique=True, return_indices=True)
        added = np.setdiff1d(np.arange(len(new)), kept_to, assume_unique=True)
        for name in (f"{side}_{part}" for part in _ARRAYS):
            array = getattr(self.model, name)
            grown = np.zeros((len(new), *array.shape[1:]), np.float32)
            if not name.endswith("_momentum"):  # Adagrad has none: pages of zeros that nobody touches take no memory
                grown[kept_to] = array[kept_from]
                grown[added] = self._start(name, (len(added), *array.shape[1:]))
            setattr(self.model, name, grown)

    def _start(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return the initial state of `LightFM._initialize`: small random factors, gradient sums of one, else zero."""
        if name.endswith("_gradients"):
            return np.ones(shape, np.float32)
        if name.endswith("_embeddings"):
            random: NDArray[np.float64] = self.model.random_state.rand(*shape)
            return ((random - 0.5) / shape[1]).astype(np.float32)
        return np.zeros(shape, np.float32)
