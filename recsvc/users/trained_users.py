"""Users as training left them, kept for their next page."""

from typing import Final

from modelstore.artefact import Model
from recsvc.domain.user import COLD, User, trained_user
from servicekit.bounded import BoundedMap

MAX_KEPT: Final = 10_000
"""Users of one model, about 500 bytes each: their numbers are the model's own."""


class TrainedUsers:
    """The users of the last model whom pages asked for, for many threads.

    Finding one here takes a fraction of the search among all.
    """

    def __init__(self) -> None:
        self._kept: tuple[Model | None, BoundedMap[str, User]] = (None, BoundedMap())

    def get(self, model: Model, user_id: str) -> User:
        """Return a user as a model knows the user; see `trained_user`."""
        of, users = self._kept
        if of is not model:
            users = BoundedMap(MAX_KEPT)
            self._kept = (model, users)  # those of the model before would keep it in memory
        user = users.get(user_id)
        if user is None:
            user = trained_user(model, user_id)
            if user is not COLD:
                users.put(user_id, user)
        return user
