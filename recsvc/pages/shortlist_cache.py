"""Caches the best videos of recent users, so that their next page needs no scan.

A shortlist is the head of a user's ranking without what the user has seen. What a request bars besides is struck
from it; when too few are left, the whole ranking is asked. So an answer from a shortlist is the ranking's own answer.
"""

import threading
from dataclasses import dataclass
from itertools import compress, islice, repeat
from operator import not_
from typing import Final

import numpy as np

from recsvc.domain.user import User
from recsvc.model.serving_model import ServingModel
from recsvc.pages.request_exclusions import RequestExclusions
from recsvc.precompute.shortlists import Precomputed
from recsvc.ranking.exact import Exclusions, Ranked, Ranker
from recsvc.ranking.video_fingerprints import Fingerprints
from servicekit.bounded import BoundedMap

LENGTH: Final = 256
"""Videos of a shortlist: a dozen pages."""
KEPT: Final = 20_000
"""Shortlists kept, about 4 KiB each."""
STALE_DROPPED: Final = 8
"""Most shortlists of earlier rankers that are dropped for each that is made: no call waits for all of them."""


@dataclass(frozen=True, slots=True)
class _Shortlist:
    ranker: Ranker
    user: User
    ranked: Ranked
    is_whole: bool
    """Whether the ranking ends with the list."""


class Shortlists:
    """The shortlists of the most recent users, for many threads.

    Args:
        kept: The most that are kept.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._precomputed: Precomputed | None = None
        self._lists: BoundedMap[str, _Shortlist] = BoundedMap(kept)
        self._lock = threading.Lock()

    def top(self, serving: ServingModel, user_id: str, user: User, count: int, unwanted: RequestExclusions) -> Ranked:
        """Return the best `count` videos that the query allows; fewer only when there are no more.

        Args:
            serving: The model that the user is known by.
            user_id: The user's name; of each, one shortlist is kept.
            user: The user now.
            count: Videos to return.
            unwanted: What must not be returned, nor what the user has seen.
        """
        ready = self._precomputed
        if ready is not None and ready.model is serving.model:
            head = ready.of(serving, user)
            left = _without(head, unwanted, count, serving.fingerprints) if head is not None else _NOTHING
            if len(left.rows) == count:
                return left
        shortlist = self._of(serving.ranker, user_id, user)
        left = _without(shortlist.ranked, unwanted, count, serving.fingerprints)
        if len(left.rows) == count or shortlist.is_whole:
            return left
        return serving.ranker.top(user, count, unwanted.barred(serving.fingerprints, user.seen))

    def adopt(self, precomputed: Precomputed | None) -> None:
        """Use precomputed lists as well, where they suffice and belong to the model in question."""
        self._precomputed = precomputed

    def __len__(self) -> int:
        return len(self._lists)

    def _of(self, ranker: Ranker, user_id: str, user: User) -> _Shortlist:
        known = self._lists.get(user_id)
        if known is not None and known.ranker is ranker and _same(known.user, user):
            return known
        ranked = ranker.top(user, LENGTH, Exclusions((user.seen,)))
        made = _Shortlist(ranker, user, ranked, len(ranked) < LENGTH)
        with self._lock:
            self._lists.put(user_id, made)
            self._drop_stale(ranker)
        return made

    def _drop_stale(self, ranker: Ranker) -> None:
        """Drop some of the lists that no call will read again: each keeps a whole ranker or model in memory."""
        for _ in range(STALE_DROPPED):
            _, oldest = self._lists.oldest()
            if oldest.ranker is ranker:
                return
            self._lists.popitem(last=False)


def _without(head: Ranked, unwanted: RequestExclusions, count: int, fingerprints: Fingerprints) -> Ranked:
    """Return the first `count` allowed videos, fewer if the list is exhausted."""
    if not len(unwanted.served) and not len(unwanted.rows) and unwanted.mask is None:
        return head.head(count)
    rows = head.rows
    # One look at each row until enough are found; numpy's set operations cost more than a page.
    served = set(unwanted.served.tolist())
    if not len(unwanted.rows) and unwanted.mask is None:
        is_new = map(not_, map(served.__contains__, fingerprints.of_rows[rows].tolist()))
        return _picked(head, list(islice(compress(range(len(rows)), is_new), count)))
    gone = set(unwanted.rows.tolist())
    blocked = repeat(object=False) if unwanted.mask is None else unwanted.mask[rows].tolist()
    looks = enumerate(zip(rows.tolist(), fingerprints.of_rows[rows].tolist(), blocked, strict=False))
    left = (place for place, (row, mark, bar) in looks if not (bar or mark in served or row in gone))
    return _picked(head, list(islice(left, count)))


def _picked(head: Ranked, places: list[int]) -> Ranked:
    """Return the videos at these places, ascending; most next pages are a slice, which numpy does not copy."""
    if places and places[-1] - places[0] == len(places) - 1:
        stretch = slice(places[0], places[-1] + 1)
        return Ranked(head.rows[stretch], head.scores[stretch])
    return Ranked(head.rows[places], head.scores[places])


def _same(one: User, other: User) -> bool:
    """Return whether two users of one name and ranker are the same: a model knows each name in one way only."""
    return one is other or (not one.interactions and not other.interactions and one.state is other.state)


_NOTHING: Final = Ranked(np.empty(0, np.int64), np.empty(0, np.float32))
