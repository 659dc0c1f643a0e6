"""Viewers as this server knows them: by the live model, by what they did since, and by what must be forgotten."""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import structlog

from recsvc.fold_in import FoldIn
from recsvc.folded_viewer import folded
from recsvc.idmap import UNKNOWN
from recsvc.interaction_message import ViewerInteraction
from recsvc.interactions import Interaction, Kind
from recsvc.journal import Entry, Journal
from recsvc.profiles import Profile, Profiles, fingerprint
from recsvc.serving_model import ServingModel
from recsvc.viewers import COLD, Viewer, ViewerState
from servicekit.errors import unavailable

logger = structlog.get_logger(__name__)

TOP_TAGS: Final = 10
RETRY_AFTER_S: Final = 1.0
FOLDED: Final = 10_000
"""Folded viewers kept ready."""
STALE_DROPPED: Final = 8
"""Most viewers of earlier models that are dropped for each that is folded: no call waits for all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileSummary:
    """What people may know of a viewer."""

    user_id: str
    state: ViewerState
    interaction_count: int
    """Since the model's cut-off."""
    seen_count: int
    top_tags: list[str]
    """Most frequent first."""
    updated_at_ms: int
    """Milliseconds since 1970 UTC."""


class Audience:
    """Tells who a viewer is.

    Args:
        profiles: What viewers did since training.
        journal: Where callers' updates and deletions are kept, shared by the server's processes; None for nowhere.
        now_ms: Milliseconds since 1970 UTC.
        share: Tells other servers of a forgotten viewer's fingerprint and the time; None where there are none.
    """

    def __init__(
        self,
        profiles: Profiles,
        journal: Journal | None,
        *,
        now_ms: Callable[[], int],
        share: Callable[[bytes, int], None] | None = None,
    ) -> None:
        self._share = share
        self._profiles = profiles
        self._journal = journal
        self._now_ms = now_ms
        self._problem = ""
        self._keeping = threading.Lock()
        self._learning = threading.Lock()
        self._unwritten: dict[bytes, int] = {}
        self._folded: OrderedDict[str, tuple[bytes, FoldIn, Viewer]] = OrderedDict()

    def viewer(self, serving: ServingModel, user_id: str, recent: Sequence[Interaction] = ()) -> Viewer:
        """Return a viewer as the model's and later interactions tell.

        Args:
            serving: The model to know the viewer by.
            user_id: The viewer.
            recent: What the viewer did since, besides what was told before; oldest first.
        """
        self._catch_up()
        base = COLD if self._profiles.is_forgotten(user_id) else serving.viewer(user_id)
        profile = self._profiles.get(user_id)
        if profile is None:
            return folded(serving, base, (), recent) if recent else base
        if recent:
            known = tuple(profile)
            held = set(known)
            return folded(serving, base, known, [one for one in recent if one not in held])
        return self._known(serving, user_id, base, profile)

    def observe(self, done: Iterable[ViewerInteraction]) -> None:
        """Note what viewers did, in this process only."""
        of_viewers: defaultdict[str, list[Interaction]] = defaultdict(list)
        for one in done:
            of_viewers[one.user_id].append(one.interaction)
        for user_id, interactions in of_viewers.items():
            self._profiles.add(user_id, self._past(interactions), now_ms=self._now_ms())

    def update(self, user_id: str, interactions: Sequence[Interaction]) -> None:
        """Note what a viewer did, in all processes and beyond a restart; UNAVAILABLE when the disk refuses."""
        past = self._past(interactions)
        if self._journal:
            with _writing():
                self._journal.append([{"user": user_id, "told": self._now_ms(), "did": [list(one) for one in past]}])
            self._catch_up()
        else:
            self._profiles.add(user_id, past, now_ms=self._now_ms())

    def forget(self, user_id: str) -> None:
        """Forget a viewer: a stranger from now on, under every model.

        ServiceError: UNAVAILABLE when other servers could not be told; this one has forgotten.
        """
        self._catch_up()
        mark, now_ms = fingerprint(user_id), self._now_ms()
        self._forget(mark, now_ms, user_id=user_id)
        if self._journal:
            with _writing():
                self._journal.rewrite(lambda entry: entry.get("user") != user_id, [_forgetting(mark, now_ms)])
        if self._share:
            self._share(mark, now_ms)

    def learn_forgotten(self, marks: Mapping[bytes, int]) -> None:
        """Forget viewers as other servers were asked to; OSError when the disk refuses, until a next call succeeds.

        Args:
            marks: Fingerprints, and the times up to which all is forgotten.
        """
        self._catch_up()
        news = {mark: at_ms for mark, at_ms in marks.items() if at_ms > (self._profiles.forgotten_at(mark) or -1)}
        for mark, at_ms in news.items():
            self._forget(mark, at_ms)
        if self._journal:
            with self._learning:
                self._unwritten |= news
                self._write_forgotten(self._journal, self._unwritten)
                self._unwritten = {}

    def _forget(self, mark: bytes, at_ms: int, *, user_id: str | None = None) -> None:
        """Forget a viewer here, and all folded ones where the name is not told: each is folded again when asked for."""
        self._profiles.forget(mark, at_ms=at_ms, user_id=user_id)
        with self._keeping:
            if user_id is None:
                self._folded.clear()
            else:
                self._folded.pop(user_id, None)

    @staticmethod
    def _write_forgotten(journal: Journal, marks: Mapping[bytes, int]) -> None:
        if marks:
            journal.rewrite(
                lambda entry: "user" not in entry or entry["told"] > marks.get(fingerprint(entry["user"]), -1),
                [_forgetting(mark, at_ms) for mark, at_ms in marks.items()],
            )

    def summary(self, serving: ServingModel, user_id: str) -> ProfileSummary | None:
        """Return what is known of a viewer, None when nothing is."""
        viewer = self.viewer(serving, user_id)
        profile = self._profiles.get(user_id)
        is_known = serving.model.users.row(user_id) != UNKNOWN and not self._profiles.is_forgotten(user_id)
        if profile is None and not is_known:
            return None
        manifest = serving.manifest
        cut_off = _ms(manifest.data_until.timestamp()) if is_known else 0
        return ProfileSummary(
            user_id=user_id,
            state=viewer.state,
            interaction_count=sum(one.at_ms >= cut_off for one in viewer.interactions),
            seen_count=len(np.unique(viewer.seen)),
            top_tags=_top_tags(serving, viewer),
            updated_at_ms=profile.updated_at_ms if profile else _ms(manifest.trained_at.timestamp()),
        )

    def _past(self, interactions: Sequence[Interaction]) -> list[Interaction]:
        """Return the interactions, none of them in the future: a deletion must reach them all."""
        now_ms = self._now_ms()
        return [one._replace(at_ms=min(one.at_ms, now_ms)) for one in interactions]

    def _known(self, serving: ServingModel, user_id: str, base: Viewer, profile: Profile) -> Viewer:
        kept = self._folded.get(user_id)
        if kept is not None and kept[0] is profile.packed and kept[1] is serving.fold_in:
            return kept[2]
        viewer = folded(serving, base, tuple(profile), ())._replace(interactions=profile)
        with self._keeping:
            self._folded[user_id] = (profile.packed, serving.fold_in, viewer)
            self._folded.move_to_end(user_id)
            if len(self._folded) > FOLDED:
                self._folded.popitem(last=False)
            self._drop_stale(serving.fold_in)
        return viewer

    def _drop_stale(self, fold_in: FoldIn) -> None:
        """Drop some viewers of earlier models, which they keep in memory."""
        for _ in range(STALE_DROPPED):
            _, earlier, _ = next(iter(self._folded.values()))
            if earlier is fold_in:
                return
            self._folded.popitem(last=False)

    def _catch_up(self) -> None:
        """Apply what other processes noted, and what was noted before this one started."""
        if self._journal:
            try:
                self._journal.follow(self._apply)
            except OSError as error:
                self._complain(str(error))  # pages are made without it

    def _complain(self, problem: str) -> None:
        """Log each problem once, not for each page."""
        if problem != self._problem:
            logger.warning("journal.read_failed", problem=problem)
        self._problem = problem

    def _apply(self, entry: Entry) -> None:
        """Apply an entry; one that this release cannot read is passed over."""
        try:
            if "forget" in entry:
                self._forget(bytes.fromhex(entry["forget"]), int(entry["at"]))
            else:
                done = list(map(_interaction, entry["did"]))
                self._profiles.add(str(entry["user"]), done, now_ms=int(entry["told"]))
        except (KeyError, TypeError, ValueError) as error:
            logger.warning("journal.entry_unreadable", problem=type(error).__name__)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        logger.warning("journal.write_failed", problem=str(error))
        raise unavailable(
            "PROFILES_UNAVAILABLE", "profiles cannot be written now", retry_after_s=RETRY_AFTER_S
        ) from None


def is_permanent(entry: Entry) -> bool:
    """Return whether an entry of the journal must outlive any limit of size."""
    return "forget" in entry


def _forgetting(mark: bytes, at_ms: int) -> Entry:
    return {"forget": mark.hex(), "at": at_ms}


def _interaction(fields: list[Any]) -> Interaction:
    video_id, kind, at_ms, watch_ms, rating = fields
    return Interaction(video_id, Kind(kind), at_ms, watch_ms, rating)


def _top_tags(serving: ServingModel, viewer: Viewer) -> list[str]:
    tags, lists = serving.model.catalogue.tags, serving.model.catalogue.tag_rows
    rows = [lists[row] for row in np.unique(viewer.seen).tolist()]
    counts = np.bincount(np.concatenate(rows), minlength=len(tags)) if rows else np.zeros(0, np.int64)
    order = np.argsort(-counts, kind="stable")[:TOP_TAGS]
    return tags.ids(order[counts[order] > 0])


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
