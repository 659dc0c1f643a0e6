"""Users who were folded into a model, kept for their next page."""

import threading
from collections.abc import Callable
from itertools import islice
from typing import Final, NamedTuple

from recsvc.domain.user import User
from recsvc.model.fold_in import FoldIn
from recsvc.model.serving_model import ServingModel
from servicekit.bounded import ENTRY_BYTES, BoundedMap

MAX_KEPT: Final = 10_000
MAX_BYTES: Final = 64 * 2**20
"""Of all who are kept: their profiles, what they have seen, their vectors."""
MAX_STALE_DROPPED: Final = 8
"""Users of earlier models that are dropped for each that is folded: no call waits for all of them."""
SWEPT_AT_ONCE: Final = 64
"""Users who are looked at before other threads have their turn."""

Look = Callable[[str, bytes], tuple[bytes | None, int | None]]
"""Returns a user's profile, the same object as is given where it is the same, and up to when the user is forgotten."""


class _Kept(NamedTuple):
    packed: bytes
    forgotten_at_ms: int | None
    fold_in: FoldIn
    user: User

    @property
    def size(self) -> int:
        """Return the bytes that are held for the user alone."""
        vector = self.user.vector
        return ENTRY_BYTES + len(self.packed) + self.user.seen.nbytes + (0 if vector is None else vector.nbytes)


class FoldedUsers:
    """The users who were asked for last, for many threads, within bounds of count and bytes.

    Args:
        max_bytes: Of all who are kept.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: BoundedMap[str, _Kept] = BoundedMap()
        self._keeping = threading.Lock()
        self.bytes = 0

    def packed(self, user_id: str) -> bytes | None:
        """Return the profile that a user was folded with, None for who is not kept."""
        kept = self._kept.get(user_id)
        return None if kept is None else kept[0]

    def get(self, serving: ServingModel, user_id: str, packed: bytes, forgotten_at_ms: int | None) -> User | None:
        """Return the user as the model and the profile tell; None for one who was not folded with both.

        Args:
            serving: The model.
            user_id: The user.
            packed: The profile: the object of `packed`, where it is the same.
            forgotten_at_ms: Up to when the user is forgotten.
        """
        kept = self._kept.get(user_id)
        if kept is not None and kept[0] is packed and kept[1] == forgotten_at_ms and kept[2] is serving.fold_in:
            return kept[3]
        return None

    def keep(self, serving: ServingModel, user_id: str, packed: bytes, forgotten_at_ms: int | None, user: User) -> None:
        """Keep the user for `get`."""
        kept = _Kept(packed, forgotten_at_ms, serving.fold_in, user)
        with self._keeping:
            self._drop(user_id)
            self._kept.put(user_id, kept)
            self.bytes += kept.size
            for _, dropped in self._kept.drop_while(self._is_over):
                self.bytes -= dropped.size
            self._drop_stale(serving.fold_in)

    def sweep(self, look: Look, pause: Callable[[], None]) -> None:
        """Drop users whose profiles changed since: nothing of a forgotten user stays in memory.

        Args:
            look: Tells what is known of a user.
            pause: Called now and then.
        """
        with self._keeping:
            names = iter([*self._kept])
        while some := [*islice(names, SWEPT_AT_ONCE)]:
            for user_id in some:
                kept = self._kept.get(user_id)
                if kept is None:
                    continue
                packed, forgotten_at_ms = look(user_id, kept.packed)
                if packed is not kept.packed or forgotten_at_ms != kept.forgotten_at_ms:
                    with self._keeping:
                        self._drop(user_id)
            pause()

    def __len__(self) -> int:
        return len(self._kept)

    def _is_over(self) -> bool:
        return self.bytes > self._max_bytes or len(self._kept) > MAX_KEPT

    def _drop_stale(self, fold_in: FoldIn) -> None:
        """Drop some users of earlier models, which they keep in memory."""
        for _ in range(MAX_STALE_DROPPED):
            if not self._kept:
                return
            user_id, kept = self._kept.oldest()
            if kept.fold_in is fold_in:
                return
            self._drop(user_id)

    def _drop(self, user_id: str) -> None:
        kept = self._kept.pop(user_id, None)
        if kept is not None:
            self.bytes -= kept.size
