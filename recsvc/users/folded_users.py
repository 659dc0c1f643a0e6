"""Users who were folded into a model, kept for their next page."""

import threading
from typing import Final

from recsvc.domain.user import User
from recsvc.model.fold_in import FoldIn
from recsvc.model.serving_model import ServingModel
from recsvc.users.folded_user import folded
from recsvc.users.profiles import Profile, fingerprint
from servicekit.bounded import BoundedMap

MAX_KEPT: Final = 10_000
MAX_STALE_DROPPED: Final = 8
"""Users of earlier models that are dropped for each that is folded: no call waits for all of them."""


class FoldedUsers:
    """The users who were asked for last, for many threads."""

    def __init__(self) -> None:
        self._kept: BoundedMap[str, tuple[bytes, FoldIn, User]] = BoundedMap(MAX_KEPT)
        self._names: dict[bytes, str] = {}
        self._keeping = threading.Lock()

    def get(self, serving: ServingModel, user_id: str, base: User, profile: Profile) -> User:
        """Return a user as the model and the profile tell.

        Args:
            serving: The model.
            user_id: The user's name.
            base: The user as the model alone tells.
            profile: What the user did since training.
        """
        kept = self._kept.get(user_id)
        if kept is not None and kept[0] is profile.packed and kept[1] is serving.fold_in:
            return kept[2]
        user = folded(serving, base, tuple(profile), ())._replace(interactions=profile)
        with self._keeping:
            dropped = self._kept.put(user_id, (profile.packed, serving.fold_in, user))
            self._names[fingerprint(user_id)] = user_id
            if dropped:
                del self._names[fingerprint(dropped[0])]
            self._drop_stale(serving.fold_in)
        return user

    def forget(self, mark: bytes) -> None:
        """Drop the user of a fingerprint."""
        with self._keeping:
            user_id = self._names.get(mark)
            if user_id is not None:
                self._drop(user_id)

    def __len__(self) -> int:
        return len(self._kept)

    def _drop_stale(self, fold_in: FoldIn) -> None:
        """Drop some users of earlier models, which they keep in memory."""
        for _ in range(MAX_STALE_DROPPED):
            user_id, (_, earlier, _) = self._kept.oldest()
            if earlier is fold_in:
                return
            self._drop(user_id)

    def _drop(self, user_id: str) -> None:
        del self._kept[user_id]
        del self._names[fingerprint(user_id)]
