"""What viewers did since training, within bounded memory.

The newest interactions of the viewers who were active last are kept; both limits hold however much arrives. A viewer
whom somebody asked to forget is a stranger from then on, whatever models know, until something new is known of them.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from recsvc.interactions import Interaction
from servicekit.viewer_fingerprint import viewer_fingerprint

MOST_A_VIEWER: Final = 1000
"""Interactions kept of one viewer."""
MOST: Final = 500_000
"""Interactions kept of all; about 200 bytes each."""
_NEVER: Final = -(1 << 62)
"""Before all times, milliseconds since 1970 UTC."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """What is known of one viewer since training."""

    interactions: tuple[Interaction, ...]
    """Oldest first."""
    updated_at_ms: int
    """Milliseconds since 1970 UTC."""


class Profiles:
    """Profiles by viewer, for many threads.

    Args:
        most: Interactions kept of all viewers together.
        most_a_viewer: Interactions kept of one.
    """

    def __init__(self, *, most: int = MOST, most_a_viewer: int = MOST_A_VIEWER) -> None:
        self._most = most
        self._most_a_viewer = most_a_viewer
        self._profiles: OrderedDict[str, Profile] = OrderedDict()
        self._held = 0
        self._forgotten: dict[bytes, int] = {}
        self._lock = threading.Lock()

    def get(self, user_id: str) -> Profile | None:
        """Return a viewer's profile, None when there is none."""
        profile = self._profiles.get(user_id)
        if profile is None or not self._forgotten:
            return profile
        at_ms = self._forgotten.get(fingerprint(user_id), _NEVER)
        if profile.interactions[0].at_ms > at_ms:
            return profile
        with self._lock:
            self._trim(user_id, at_ms)
        return self._profiles.get(user_id)

    def add(self, user_id: str, interactions: Iterable[Interaction], *, now_ms: int) -> Profile | None:
        """Add interactions to a viewer's profile and return it, None when there is still none.

        What was known already, and what happened before the viewer was forgotten, is passed over.
        """
        with self._lock:
            since = self._forgotten.get(fingerprint(user_id), _NEVER) if self._forgotten else _NEVER
            self._trim(user_id, since)
            known = self._profiles.get(user_id)
            before = known.interactions if known else ()
            held = set(before)
            new = [one for one in dict.fromkeys(interactions) if one not in held and one.at_ms > since]
            if not new:
                return known
            merged = merge(before, new)[-self._most_a_viewer :]
            profile = Profile(interactions=merged, updated_at_ms=now_ms)
            self._held += len(merged) - len(before)
            self._profiles[user_id] = profile
            self._profiles.move_to_end(user_id)
            while self._held > self._most:
                _, dropped = self._profiles.popitem(last=False)
                self._held -= len(dropped.interactions)
            return profile

    def forget(self, mark: bytes, *, at_ms: int, user_id: str | None = None) -> None:
        """Forget a viewer, named by fingerprint.

        Args:
            mark: The viewer's fingerprint.
            at_ms: What happened up to then is forgotten, also when it is told only later.
            user_id: The viewer, where the caller knows; else the profile is dropped when it is next asked for.
        """
        with self._lock:
            self._forgotten[mark] = max(at_ms, self._forgotten.get(mark, at_ms))
            if user_id is not None:
                self._trim(user_id, at_ms)

    def forgotten_at(self, mark: bytes) -> int | None:
        """Return up to when a viewer is forgotten, None for one who is not."""
        return self._forgotten.get(mark)

    def is_forgotten(self, user_id: str) -> bool:
        """Return whether models must not be asked about a viewer."""
        return bool(self._forgotten) and fingerprint(user_id) in self._forgotten

    def __len__(self) -> int:
        return len(self._profiles)

    def _trim(self, user_id: str, at_ms: int) -> None:
        known = self._profiles.get(user_id)
        if known is None or known.interactions[0].at_ms > at_ms:
            return
        del self._profiles[user_id]
        kept = tuple(one for one in known.interactions if one.at_ms > at_ms)
        self._held -= len(known.interactions) - len(kept)
        if kept:
            self._profiles[user_id] = Profile(interactions=kept, updated_at_ms=known.updated_at_ms)


def merge(before: Sequence[Interaction], new: Iterable[Interaction]) -> tuple[Interaction, ...]:
    """Return all, oldest first; those of one instant in the order in which they were told."""
    return tuple(sorted((*before, *new), key=lambda one: one.at_ms))


fingerprint = viewer_fingerprint
"""Returns a viewer's name for the list of the forgotten, which must not hold names."""
