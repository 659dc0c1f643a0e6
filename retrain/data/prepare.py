"""Prepares exported files as numbers: coded events, and the state of knowledge at any instant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import duckdb
import numpy as np
import structlog
from numpy.typing import NDArray

from modelstore.artefact import Catalogue, RowLists
from modelstore.id_map import IdMap
from modelstore.interaction_weights import LONG_WATCH_MS, MAX_WEIGHT
from retrain.data.day_facts import DayFacts
from retrain.data.duckdb_session import DuckDbSession
from retrain.data.erased_users import decode
from retrain.data.exports import Window, midnight
from retrain.data.input_files import InputFiles
from retrain.data.kinds_table import create_kinds
from retrain.errors import Reason, RunError
from servicekit.user_fingerprint import user_fingerprint

__all__ = ["LONG_WATCH_MS", "MAX_WEIGHT"]  # from here, too: prepared data keep to them

logger = structlog.get_logger("retrain")

TASTE_HALVINGS: Final = 6
"""Times that a place in a user's taste may halve in weight before it counts for nothing."""
DAY_SAMPLE: Final = 20_000
"""About so many users tell how often pairs of user and video repeat."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """Pairs of a user's and a video's row, ascending, without repeats."""

    users: NDArray[np.int32]
    videos: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.users)

    def lists(self, user_count: int) -> RowLists:
        """Return the videos as one list a user."""
        return RowLists(_offsets(self.users, user_count), self.videos)


@dataclass(frozen=True, kw_only=True, slots=True)
class Positives:
    """The positives of users, with weights."""

    pairs: Pairs
    weights: NDArray[np.float32]
    """Above 0."""

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Numbers of users, videos and interactions."""

    read: int
    """Rows in the exports."""
    repeated: int
    """Good rows that were in the exports before."""
    broken: dict[str, int]
    """Rows that were dropped, by what is wrong with them."""
    events: int
    """Interactions that are used."""
    last_day_events: int
    """Those of the last day."""
    past_events: int
    """Videos in the histories of users."""
    users: int
    videos: int


class Interactions:
    """Coded interactions, as of any instant. Rows are ranks of sorted identifiers, the same for all instants.

    Args:
        warehouse: Holds them; see `prepare`.
        counts: What there is.
    """

    def __init__(self, warehouse: DuckDbSession, counts: Counts) -> None:
        self._warehouse = warehouse
        self.counts = counts
        self._users: IdMap | None = None
        self._videos: IdMap | None = None

    def positives(self, until: datetime, *, half_life: timedelta) -> Positives:
        """Return the positives by an instant."""
        columns = self._warehouse.arrays(
            "positives", until_ms=_ms(until), half_life_ms=half_life / timedelta(milliseconds=1), most=MAX_WEIGHT
        )
        return Positives(pairs=_pairs(columns), weights=_plain(columns["weight"], np.float32))

    def tastes(
        self,
        until: datetime,
        *,
        half_life: timedelta,
        half_life_places: float,
        users: NDArray[np.integer] | None = None,
    ) -> Positives:
        """Return the last positives of users by an instant.

        Args:
            until: The instant.
            half_life: Time in which an interaction halves in weight.
            half_life_places: So many liked videos later it has halved once more.
            users: Rows of the users to tell of; None for all.
        """
        columns = self._warehouse.arrays(
            "tastes",
            until_ms=_ms(until),
            half_life_ms=half_life / timedelta(milliseconds=1),
            most=MAX_WEIGHT,
            half_life_places=half_life_places,
            most_places=math.ceil(TASTE_HALVINGS * half_life_places),
            users=None if users is None else users.tolist(),
        )
        return Positives(pairs=_pairs(columns), weights=_plain(columns["weight"], np.float32))

    def popularity(self, until: datetime, *, half_life: timedelta) -> NDArray[np.float32]:
        """Return each video's time-decayed weighted count of interactions by an instant, (V,)."""
        columns = self._warehouse.arrays(
            "popularity", until_ms=_ms(until), half_life_ms=half_life / timedelta(milliseconds=1)
        )
        popularity = np.zeros(self.counts.videos, np.float32)
        popularity[columns["video"]] = columns["popularity"]
        return popularity

    def seen(self, until: datetime) -> RowLists:
        """Return the videos shown to each user by an instant, U lists."""
        return _pairs(self._warehouse.arrays("seen", until_ms=_ms(until))).lists(self.counts.users)

    def targets(self, since: datetime, until: datetime, *, watched: bool = False) -> Pairs:
        """Return the videos that users liked, or also only watched, within a time, and had not been shown before it."""
        return _pairs(self._warehouse.arrays("targets", since_ms=_ms(since), until_ms=_ms(until), watched=watched))

    def fresh(self, since: datetime, until: datetime) -> Pairs:
        """Return the videos that users liked within a time, whether or not they had liked them before."""
        return _pairs(self._warehouse.arrays("fresh", since_ms=_ms(since), until_ms=_ms(until)))

    def middle(self, since: datetime, until: datetime) -> datetime | None:
        """Return the instant by which half of the interactions of a time had happened, None if there are none."""
        at_ms = self._warehouse.row("middle", since_ms=_ms(since), until_ms=_ms(until))["at_ms"]
        return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)

    def days(self) -> list[DayFacts]:
        """Return statistics of each day's interactions, oldest first."""
        stride = max(1, self.counts.users // DAY_SAMPLE)
        return [DayFacts(**row) for row in self._warehouse.dicts("day_facts", stride=stride)]

    def liked_before(self, users: Sequence[int], until: datetime) -> dict[int, list[tuple[int, bool]]]:
        """Return the videos that some users liked before an instant, the latest first, and whether they said so."""
        liked: dict[int, list[tuple[int, bool]]] = {}
        for user, video, told in self._warehouse.rows("liked_before", users=list(users), until_ms=_ms(until)):
            liked.setdefault(user, []).append((video, told))
        return liked

    def names_of(self, users: Sequence[int]) -> dict[int, str]:
        """Return the identifiers of some users by their rows."""
        return dict(self._warehouse.rows("about_users", rows=list(users)))

    def about(self, videos: Sequence[int]) -> dict[int, tuple[str, str | None, list[str]]]:
        """Return identifier, author and tags of some videos by their rows."""
        rows = self._warehouse.rows("about_videos", rows=list(videos))
        return {video: (name, author, tags) for video, name, author, tags in rows}

    def users(self) -> IdMap:
        """Return the identifiers of the users."""
        if self._users is None:
            self._users = IdMap(self._warehouse.identifiers("user_ids"))
        return self._users

    def videos(self) -> IdMap:
        """Return the identifiers of the videos."""
        if self._videos is None:
            self._videos = IdMap(self._warehouse.identifiers("video_ids"))
        return self._videos

    def catalogue(self) -> Catalogue:
        """Return the attributes of each video."""
        facts = self._warehouse.arrays("video_facts")
        tags = self._warehouse.arrays("video_tags")
        return Catalogue(
            authors=IdMap(self._warehouse.identifiers("authors")),
            author_rows=_plain(facts["author"], np.int32),
            tags=IdMap(self._warehouse.identifiers("tags")),
            tag_rows=RowLists(_offsets(tags["video"], self.counts.videos), _plain(tags["tag"], np.int32)),
            durations_ms=_plain(facts["duration_ms"], np.int64),
            published_at_ms=_plain(facts["published_at_ms"], np.int64),
        )


def prepare(source: InputFiles, window: Window, warehouse: DuckDbSession) -> Interactions:
    """Code the files' rows into the session; RunError for a file that cannot be read, or without a usable row."""
    try:
        _load(source, window, warehouse)
    except duckdb.Error:
        mended = source.mended(warehouse.folder)
        if mended is None:
            raise
        warehouse.begin_again()
        _load(mended, window, warehouse)
    totals = warehouse.row("totals", last_day_ms=_ms(midnight(window.last)))
    counts = Counts(broken=dict(warehouse.rows("faults")), **totals)
    if aside := dict(warehouse.rows("set_aside")):
        logger.warning("interactions.set_aside", **aside)
    if not counts.last_day_events:
        raise RunError(Reason.DATA, f"{window.last} holds no usable interaction; dropped rows: {counts.broken}")
    return Interactions(warehouse, counts)


def _load(source: InputFiles, window: Window, warehouse: DuckDbSession) -> None:
    warehouse.define(until_ms=_ms(window.until))
    warehouse.run("identifier")
    create_kinds(warehouse)
    source.make_views(warehouse.inputs)
    if source.history:
        warehouse.run("history", start_ms=_ms(midnight(window.days[0].day)))
    else:
        warehouse.run("no_history")
    _forget(source, warehouse)
    warehouse.run("forget_past", "exported")
    warehouse.run("catalogue" if source.catalogue else "no_catalogue")
    warehouse.run("named", "users", "videos", "coded", "past_events")
    warehouse.run("events", long_watch_ms=LONG_WATCH_MS)
    warehouse.run("liked_until")


def _forget(source: InputFiles, warehouse: DuckDbSession) -> None:
    """Store the users of the files who must not be trained on."""
    if source.erased is None:
        warehouse.run("no_forgotten")
        return
    marks = decode(source.erased.read_bytes())
    warehouse.function("user_fingerprint", user_fingerprint, "VARCHAR", "BLOB")
    warehouse.run("forgotten", marks=[*marks.keys()], times=[*marks.values()])


def _ms(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


def _pairs(columns: dict[str, NDArray[Any]]) -> Pairs:
    return Pairs(users=_plain(columns["user"], np.int32), videos=_plain(columns["video"], np.int32))


def _plain(column: NDArray[Any], kind: Any) -> NDArray[Any]:
    """Return a column without nulls as a plain array of this type."""
    return np.ascontiguousarray(column, dtype=kind)


def _offsets(rows: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Return where each row's run begins in ascending rows, and the end of the last, (count + 1,)."""
    return np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=count)))).astype(np.int64)
