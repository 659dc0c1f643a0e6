"""Users as this server knows them: by the live model, by what they did since, and by what must be forgotten."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
import structlog

from modelstore.id_map import UNKNOWN
from recsvc.domain.interaction import Interaction
from recsvc.domain.user import COLD, User, UserState, trained_user
from recsvc.model.serving_model import ServingModel
from recsvc.profile_log.entry import Entry, Erasure, Update
from recsvc.profile_log.follower import JournalFollower
from recsvc.profile_log.log import ProfileLog
from recsvc.users.folded_user import folded
from recsvc.users.folded_users import FoldedUsers
from recsvc.users.kafka_message import UserInteraction
from recsvc.users.profiles import Profiles, fingerprint
from servicekit.grpc.errors import unavailable

logger = structlog.get_logger(__name__)

TOP_TAGS: Final = 10
RETRY_AFTER_S: Final = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileSummary:
    """What people may know of a user."""

    user_id: str
    state: UserState
    interaction_count: int
    """Since the model's cut-off."""
    seen_count: int
    top_tags: list[str]
    """Most frequent first."""
    updated_at_ms: int
    """Milliseconds since 1970 UTC."""


class UserDirectory:
    """Tells who a user is.

    Args:
        profiles: What users did since training.
        journal: Where callers' updates and deletions are kept, shared by the server's processes; None for nowhere.
        now_ms: Milliseconds since 1970 UTC.
        share: Tells other servers of a forgotten user's fingerprint and the time; None where there are none.
    """

    def __init__(
        self,
        profiles: Profiles,
        journal: ProfileLog | None,
        *,
        now_ms: Callable[[], int],
        share: Callable[[bytes, int], None] | None = None,
    ) -> None:
        self._share = share
        self._profiles = profiles
        self._journal = journal
        self._follower = JournalFollower(journal, self._apply) if journal else None
        self._now_ms = now_ms
        self._learning = threading.Lock()
        self._unwritten: dict[bytes, int] = {}
        self._folded = FoldedUsers()

    def start(self) -> None:
        """Learn what was noted before this process started; from then on, soon what other processes note."""
        if self._follower:
            self._follower.start()

    def stop(self) -> None:
        """Stop following other processes."""
        if self._follower:
            self._follower.stop()

    def catch_up(self) -> None:
        """Learn now what other processes noted."""
        if self._follower:
            self._follower.look()

    def user(self, serving: ServingModel, user_id: str, recent: Sequence[Interaction] = ()) -> User:
        """Return a user as the model's and later interactions tell.

        Args:
            serving: The model to know the user by.
            user_id: The user.
            recent: What the user did since, besides what was told before; oldest first.
        """
        base = COLD if self._profiles.is_forgotten(user_id) else trained_user(serving.model, user_id)
        profile = self._profiles.get(user_id)
        if profile is None:
            return folded(serving, base, (), recent) if recent else base
        if recent:
            known = tuple(profile)
            held = set(known)
            return folded(serving, base, known, [one for one in recent if one not in held])
        return self._folded.get(serving, user_id, base, profile)

    def observe(self, done: Iterable[UserInteraction]) -> None:
        """Note what users did, in this process only."""
        of_users: defaultdict[str, list[Interaction]] = defaultdict(list)
        for one in done:
            of_users[one.user_id].append(one.interaction)
        for user_id, interactions in of_users.items():
            self._profiles.add(user_id, self._past(interactions), now_ms=self._now_ms())

    def update(self, user_id: str, interactions: Sequence[Interaction]) -> None:
        """Note what a user did, here at once, in other processes soon, and beyond a restart.

        ServiceError: UNAVAILABLE when the disk refuses; nothing is noted then.
        """
        past, now_ms = self._past(interactions), self._now_ms()
        if self._journal:
            with _writing():
                self._journal.append([Update(user_id, now_ms, past)])
        self._profiles.add(user_id, past, now_ms=now_ms)

    def forget(self, user_id: str) -> None:
        """Forget a user: a stranger from now on, under every model; on the disk soon, too.

        ServiceError: UNAVAILABLE when the disk refuses, or other servers could not be told; this one has forgotten.
        """
        mark, now_ms = fingerprint(user_id), self._now_ms()
        self._forget(mark, now_ms, user_id=user_id)
        if self._journal:
            with _writing():
                self._journal.append([Erasure(mark, now_ms)])
        if self._share:
            self._share(mark, now_ms)

    def learn_forgotten(self, marks: Mapping[bytes, int]) -> None:
        """Forget users as other servers were asked to; OSError when the disk refuses, until a next call succeeds.

        Args:
            marks: Fingerprints, and the times up to which all is forgotten; none is later than now, whatever clock
                told it.
        """
        now_ms = self._now_ms()
        past = {mark: min(at_ms, now_ms) for mark, at_ms in marks.items()}
        news = {mark: at_ms for mark, at_ms in past.items() if at_ms > (self._profiles.forgotten_at(mark) or -1)}
        for mark, at_ms in news.items():
            self._forget(mark, at_ms)
        if self._journal:
            with self._learning:
                self._unwritten |= news
                if self._unwritten:
                    self._journal.append([Erasure(mark, at_ms) for mark, at_ms in self._unwritten.items()])
                self._unwritten = {}

    def _forget(self, mark: bytes, at_ms: int, *, user_id: str | None = None) -> None:
        """Forget a user here."""
        self._profiles.forget(mark, at_ms=at_ms, user_id=user_id)
        self._folded.forget(mark)

    def summary(self, serving: ServingModel, user_id: str) -> ProfileSummary | None:
        """Return what is known of a user, None when nothing is."""
        user = self.user(serving, user_id)
        profile = self._profiles.get(user_id)
        is_known = serving.model.users.row(user_id) != UNKNOWN and not self._profiles.is_forgotten(user_id)
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
        )

    def _past(self, interactions: Sequence[Interaction]) -> list[Interaction]:
        """Return the interactions, none of them in the future: a deletion must reach them all."""
        now_ms = self._now_ms()
        return [one._replace(at_ms=min(one.at_ms, now_ms)) for one in interactions]

    def _apply(self, entry: Entry) -> None:
        """Take in what this or another process noted, maybe again."""
        if isinstance(entry, Erasure):
            self._forget(entry.mark, entry.at_ms)
        else:
            self._profiles.add(entry.user_id, entry.done, now_ms=entry.told_ms)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        logger.warning("journal.write_failed", problem=str(error))
        raise unavailable(
            "PROFILES_UNAVAILABLE", "profiles cannot be written now", retry_after_s=RETRY_AFTER_S
        ) from None


def _top_tags(serving: ServingModel, user: User) -> list[str]:
    tags, lists = serving.model.catalogue.tags, serving.model.catalogue.tag_rows
    rows = [lists[row] for row in np.unique(user.seen).tolist()]
    counts = np.bincount(np.concatenate(rows), minlength=len(tags)) if rows else np.zeros(0, np.int64)
    order = np.argsort(-counts, kind="stable")[:TOP_TAGS]
    return tags.ids(order[counts[order] > 0])


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
