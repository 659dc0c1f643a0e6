"""Users as this server knows them: by the live model, by what they did since, and by what must be forgotten."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelstore.id_map import UNKNOWN
from recsvc.domain.interaction import Interaction
from recsvc.domain.user import COLD, User, UserState
from recsvc.live_state.profile import DamagedError, Profile, without
from recsvc.live_state.store import LiveStore
from recsvc.model.serving_model import ServingModel
from recsvc.profile_updates.recorder import Durability, ProfileRecorder
from recsvc.users.folded_user import folded
from recsvc.users.folded_users import FoldedUsers
from recsvc.users.trained_users import TrainedUsers
from servicekit.process.periodic_thread import PeriodicThread

TOP_TAGS: Final = 10
SWEEP_S: Final = 30.0
"""Seconds between two looks at all who are kept in memory."""
BREATH_S: Final = 0.005
"""Seconds that pages have the interpreter for themselves between two steps of such a look."""
NO_DEADLINE: Final = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileSummary:
    """The facts about a user that callers may read."""

    user_id: str
    state: UserState
    interaction_count: int
    """Since the model's cut-off."""
    seen_count: int
    top_tags: list[str]
    """Most frequent first."""
    updated_at_ms: int
    """Milliseconds since 1970 UTC."""
    known_until_ms: int | None = None
    """Up to when all that users did is known, milliseconds since 1970 UTC; None where nobody can tell."""


class UserDirectory:
    """Tells who a user is, by one lookup in the store that the processes of this machine share.

    Args:
        store: What users did since training.
        recorder: Keeps what callers tell.
        now_ms: Milliseconds since 1970 UTC.
        known_until_ms: Returns up to when all that Kafka holds is known; None where nobody can tell.
    """

    def __init__(
        self,
        store: LiveStore,
        recorder: ProfileRecorder,
        *,
        now_ms: Callable[[], int],
        known_until_ms: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._now_ms = now_ms
        self._known_until_ms = known_until_ms
        self._folded = FoldedUsers()
        self._trained = TrainedUsers()
        self._sweeping = PeriodicThread("folded-users", self.sweep, interval_s=SWEEP_S)

    def start(self) -> None:
        """Open the store, and start the thread that sweeps."""
        self._store.environment()
        self._sweeping.start()

    def stop(self) -> None:
        """Stop the thread that sweeps, and the recorder."""
        self._sweeping.stop()
        self._recorder.stop()

    def sweep(self) -> None:
        """Drop users from memory whose profiles changed since, or who were forgotten."""
        self._folded.sweep(self._store.look, lambda: self._sweeping.pause(BREATH_S))

    def user(self, serving: ServingModel, user_id: str, recent: Sequence[Interaction] = ()) -> User:
        """Return a user as the model's and later interactions tell.

        Args:
            serving: The model to know the user by.
            user_id: The user.
            recent: What the user did since, besides what was told before; oldest first.
        """
        packed, forgotten_at_ms = self._store.look(user_id, self._folded.packed(user_id))
        if packed is not None and not recent:
            kept = self._folded.get(serving, user_id, packed, forgotten_at_ms)
            if kept is not None:
                return kept
        base = self._trained.get(serving.model, user_id) if forgotten_at_ms is None else COLD
        if packed is None:
            return folded(serving, base, (), recent) if recent else base
        profile = self._readable(packed, forgotten_at_ms)
        if recent:
            known = tuple(profile) if profile else ()
            held = set(known)
            return folded(serving, base, known, [one for one in recent if one not in held])
        user = base
        if profile is not None:
            user = folded(serving, base, tuple(profile), ())._replace(interactions=profile)
        self._folded.keep(serving, user_id, packed, forgotten_at_ms, user)
        return user

    def update(self, user_id: str, interactions: Sequence[Interaction], *, within_s: float = NO_DEADLINE) -> Durability:
        """Keep a user's interactions, and return where they are kept.

        ServiceError: UNAVAILABLE when nothing can keep it; nothing is noted then.
        """
        now_ms = self._now_ms()
        # None of them in the future: a deletion must reach them all.
        past = [one._replace(at_ms=min(one.at_ms, now_ms)) for one in interactions]
        return self._recorder.update(user_id, past, told_ms=now_ms, within_s=within_s)

    def forget(self, user_id: str, *, within_s: float = NO_DEADLINE) -> Durability:
        """Forget a user, a stranger from now on, under every model; return where that is kept.

        ServiceError: UNAVAILABLE when nothing can keep it, or other servers could not be told.
        """
        return self._recorder.forget(user_id, at_ms=self._now_ms(), within_s=within_s)

    def summary(self, serving: ServingModel, user_id: str) -> ProfileSummary | None:
        """Return the summary of a user, None when nothing is known."""
        user = self.user(serving, user_id)
        packed, forgotten_at_ms = self._store.look(user_id)
        profile = None if packed is None else self._readable(packed, forgotten_at_ms)
        is_known = serving.model.users.row(user_id) != UNKNOWN and forgotten_at_ms is None
        if profile is None and not is_known:
            return None
        manifest = serving.manifest
        cut_off = _ms(manifest.data_until.timestamp()) if is_known else 0
        return ProfileSummary(
            user_id=user_id,
            state=user.state,
            interaction_count=sum(one.at_ms >= cut_off for one in user.interactions),
            seen_count=len(np.unique(user.seen)),
            top_tags=_top_tags(serving, user),
            updated_at_ms=profile.updated_at_ms if profile else _ms(manifest.trained_at.timestamp()),
            known_until_ms=self._known_until_ms(),
        )

    def stranger(self, user_id: str) -> ProfileSummary:
        """Return the summary of somebody of whom nothing is known, as of now."""
        return ProfileSummary(
            user_id=user_id,
            state=UserState.COLD,
            interaction_count=0,
            seen_count=0,
            top_tags=[],
            updated_at_ms=self._now_ms(),
            known_until_ms=self._known_until_ms(),
        )

    def _readable(self, packed: bytes, forgotten_at_ms: int | None) -> Profile | None:
        """Return the profile of these bytes, None where nothing of it counts, or the disk changed it."""
        try:
            profile = Profile(packed)
            profile.check()
            return profile if forgotten_at_ms is None else without(profile, forgotten_at_ms)
        except DamagedError:
            self._store.damage.report()
            return None


def _top_tags(serving: ServingModel, user: User) -> list[str]:
    tags, lists = serving.model.catalogue.tags, serving.model.catalogue.tag_rows
    rows = [lists[row] for row in np.unique(user.seen).tolist()]
    counts = np.bincount(np.concatenate(rows), minlength=len(tags)) if rows else np.zeros(0, np.int64)
    order = np.argsort(-counts, kind="stable")[:TOP_TAGS]
    return tags.ids(order[counts[order] > 0])


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
