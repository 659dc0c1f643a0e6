"""The set of videos that no page may show, in memory. Its changes may come twice, late, and in any order.

Of two states of a key the one with the higher revision counts. A hide that Kafka alone has acknowledged has none: it
counts until a state says that Postgres has taken it in.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bridge.domain.page import RankedVideo
from bridge.visibility.changes import Authorship, Change, FromKafka, Kind, Limits, ReadOffsets, Stored, Works

MAX_UNTAKEN: Final = 64
"""Hides of one key by Kafka alone that are told apart; more of them say nothing new."""


@dataclass(slots=True)
class _State:
    revision: int = -1
    hidden: bool = False
    taken_in: tuple[str, ...] = ()
    untaken: tuple[str, ...] = ()

    @property
    def is_hidden(self) -> bool:
        return self.hidden or bool(self.untaken)


@dataclass(slots=True)
class _Author:
    """A hidden author's videos; None until they are known."""

    videos: set[str] | None = None


@dataclass(slots=True)
class HiddenSet:
    """Holds hidden, expired and denied videos. Belongs to one event loop.

    Attributes:
        offsets: How far the topic has been read.
    """

    offsets: dict[int, int] = field(default_factory=dict)
    _states: dict[Kind, dict[str, _State]] = field(default_factory=lambda: {kind: {} for kind in Kind})
    _limits: dict[str, Limits] = field(default_factory=dict)
    _authors: dict[str, _Author] = field(default_factory=dict)
    _author_of: dict[str, str] = field(default_factory=dict)
    _hidden: set[str] = field(default_factory=set)
    """Videos that are hidden, themselves or with their author: all that a page looks at besides the limits."""

    def __len__(self) -> int:
        return len(self._hidden)

    @property
    def limited(self) -> int:
        """The number of videos with limits of time or place."""
        return len(self._limits)

    @property
    def size(self) -> int:
        """The number of changes that `changes` yields, about."""
        return sum(map(len, self._states.values())) + len(self._limits) + len(self._authors) + 1

    def apply(self, change: Change) -> bool:
        """Take a change in; return whether it said anything new."""
        match change:
            case Stored():
                return self._apply_stored(change)
            case FromKafka():
                return self._apply_untaken(change)
            case Limits():
                return self._apply_limits(change)
            case Works():
                return self._apply_works(change)
            case Authorship():
                return self._apply_authorship(change)
            case ReadOffsets():
                before = dict(self.offsets)
                self.offsets.update(change.offsets)
                return before != self.offsets

    def changes(self) -> Iterator[Change]:
        """Return the changes that make an empty set this one, as it is now: another thread may go through them."""
        works = {author: tuple(one.videos) for author, one in self._authors.items() if one.videos is not None}
        states = [(kind, states.copy()) for kind, states in self._states.items()]
        return _changes(
            states, [*self._limits.values()], works, ReadOffsets(offsets=tuple(sorted(self.offsets.items())))
        )

    def is_hidden(self, kind: Kind, name: str) -> bool:
        """Return whether a video or author is hidden itself."""
        state = self._states[kind].get(name)
        return state is not None and state.is_hidden

    def is_untaken(self, kind: Kind, name: str) -> bool:
        """Return whether there is a hide of it that Kafka alone has."""
        state = self._states[kind].get(name)
        return state is not None and bool(state.untaken)

    def untaken(self, kind: Kind) -> list[str]:
        """Return what is hidden by Kafka alone."""
        return [name for name, state in self._states[kind].items() if state.untaken]

    def knows(self, kind: Kind, name: str) -> bool:
        """Return whether there is, or was, anything that keeps it from pages."""
        return name in self._states[kind] or (kind is Kind.VIDEO and name in self._limits)

    def unresolved_authors(self) -> list[str]:
        """Return hidden authors whose videos are not known."""
        return [author_id for author_id, author in self._authors.items() if author.videos is None]

    def hidden_authors(self) -> list[str]:
        """Return all hidden authors."""
        return [*self._authors]

    def concerns(self, video_id: str, author_id: str) -> bool:
        """Return whether it matters whose a video is: it is, or was, of a hidden author."""
        return author_id in self._authors or video_id in self._author_of

    def may_show(self, videos: Sequence[RankedVideo], country: str, now_s: float) -> Sequence[RankedVideo]:
        """Return the videos without those that no page may show; themselves where that is all of them."""
        ids = [video_id for video_id, _ in videos]
        if self._hidden.isdisjoint(ids) and (not self._limits or self._limits.keys().isdisjoint(ids)):
            return videos
        bars = self.bars(country, now_s)
        return [video for video in videos if not bars(video[0], "")]

    def bars(self, country: str, now_s: float) -> Callable[[str, str], bool]:
        """Return what tells whether a video, by an author or an unknown one, may not be shown."""
        hidden, limits, authors = self._hidden, self._limits, self._authors

        def barred(video_id: str, author_id: str) -> bool:
            if video_id in hidden or (authors and author_id in authors):
                return True
            limit = limits.get(video_id)
            return limit is not None and limit.bars(country, now_s)

        return barred

    def forget_limits(self, *, but: Iterable[str], until: int) -> None:
        """Drop the limits of all videos but some, as far as they are of a revision of before."""
        kept = set(but)
        for video_id in [one.video_id for one in self._limits.values() if one.revision <= until]:
            if video_id not in kept:
                del self._limits[video_id]

    def _apply_stored(self, change: Stored) -> bool:
        state = self._states[change.kind].setdefault(change.id, _State())
        before = (state.revision, state.hidden, state.untaken)
        state.untaken = tuple([one for one in state.untaken if one not in change.taken_in])
        if change.revision > state.revision:
            state.revision, state.hidden, state.taken_in = change.revision, change.hidden, change.taken_in
        self._settle(change.kind, change.id, state)
        return before != (state.revision, state.hidden, state.untaken)

    def _apply_untaken(self, change: FromKafka) -> bool:
        state = self._states[change.kind].setdefault(change.id, _State())
        if change.hide_id in state.taken_in or change.hide_id in state.untaken or len(state.untaken) >= MAX_UNTAKEN:
            return False
        state.untaken = (*state.untaken, change.hide_id)
        self._settle(change.kind, change.id, state)
        return True

    def _settle(self, kind: Kind, name: str, state: _State) -> None:
        if kind is Kind.VIDEO:
            self._settle_video(name)
        elif state.is_hidden:
            self._authors.setdefault(name, _Author())
        else:
            author = self._authors.pop(name, None)
            for video_id in (author.videos or ()) if author else ():
                self._author_of.pop(video_id, None)
                self._settle_video(video_id)

    def _settle_video(self, video_id: str) -> None:
        if video_id in self._author_of or self.is_hidden(Kind.VIDEO, video_id):
            self._hidden.add(video_id)
        else:
            self._hidden.discard(video_id)

    def _apply_limits(self, change: Limits) -> bool:
        before = self._limits.get(change.video_id)
        if before is not None and before.revision >= change.revision:
            return False
        if change.is_limited:
            self._limits[change.video_id] = change
            return True
        return self._limits.pop(change.video_id, None) is not None

    def _apply_works(self, change: Works) -> bool:
        author = self._authors.get(change.author_id)
        wanted = {*change.video_ids}
        if author is None or author.videos == wanted:
            return False
        had, author.videos = author.videos or set(), wanted
        for video_id in had - wanted:
            if self._author_of.get(video_id) == change.author_id:
                del self._author_of[video_id]
        for video_id in wanted:
            self._take_from_other(video_id, change.author_id)
            self._author_of[video_id] = change.author_id
        for video_id in had ^ wanted:
            self._settle_video(video_id)
        return True

    def _apply_authorship(self, change: Authorship) -> bool:
        author = self._authors.get(change.author_id)
        videos = None if author is None else author.videos
        after = "" if videos is None else change.author_id
        if self._author_of.get(change.video_id, "") == after:
            return False
        self._take_from_other(change.video_id, after)
        if videos is not None:
            videos.add(change.video_id)
            self._author_of[change.video_id] = after
        self._settle_video(change.video_id)
        return True

    def _take_from_other(self, video_id: str, author_id: str) -> None:
        before = self._author_of.get(video_id, "")
        if before and before != author_id:
            del self._author_of[video_id]
            other = self._authors.get(before)
            if other is not None and other.videos is not None:
                other.videos.discard(video_id)


def _changes(
    states: Iterable[tuple[Kind, Mapping[str, _State]]],
    limits: Iterable[Limits],
    works: Mapping[str, tuple[str, ...]],
    progress: ReadOffsets,
) -> Iterator[Change]:
    for kind, of_kind in states:
        for name, state in of_kind.items():
            if state.revision >= 0:
                yield Stored(kind=kind, id=name, revision=state.revision, hidden=state.hidden, taken_in=state.taken_in)
            for hide_id in state.untaken:
                yield FromKafka(kind=kind, id=name, hide_id=hide_id)
    yield from limits
    for author_id, video_ids in works.items():
        yield Works(author_id=author_id, video_ids=video_ids)
    yield progress
