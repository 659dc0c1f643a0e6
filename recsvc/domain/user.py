"""Defines how a model knows a user."""

from collections.abc import Collection
from enum import IntEnum, auto
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelstore.artefact import Model
from modelstore.id_map import UNKNOWN
from recsvc.domain.interaction import Interaction


class UserState(IntEnum):  # whose members are hashed without a call into Python
    """Sources of a user's representation."""

    TRAINED = auto()
    """From training."""
    FOLDED_IN = auto()
    """Computed from recent interactions."""
    COLD = auto()
    """There is none: popularity ranks."""


class User(NamedTuple):
    """A user as ranking needs one."""

    state: UserState
    vector: NDArray[np.float32] | None
    """(d,); None where nothing is known."""
    bias: float
    seen: NDArray[np.int32]
    """Rows of videos that the user was shown."""
    interactions: Collection[Interaction] = ()
    """What the user did since training, oldest first."""
    row: int = UNKNOWN
    """Of a user who is as the model was trained."""


COLD: Final = User(state=UserState.COLD, vector=None, bias=0.0, seen=np.empty(0, np.int32))


def trained_user(model: Model, user_id: str) -> User:
    """Return the user as trained, or a cold one if the model does not know the user.

    A user of whom the training data held nothing but what was shown has factors of zero: cold, with videos seen.
    """
    row = model.users.row(user_id)
    return COLD if row == UNKNOWN else user_at(model, row)


def user_at(model: Model, row: int) -> User:
    """Return the user of a row of the model; see `trained_user`."""
    vector = model.user_factors[row]
    is_trained = bool(vector[0]) or np.count_nonzero(vector) > 0
    state, known = (UserState.TRAINED, vector) if is_trained else (UserState.COLD, None)
    return User(state, known, float(model.user_biases[row]), model.seen[row], (), row)
