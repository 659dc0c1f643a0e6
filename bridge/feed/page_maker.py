"""Makes a page: LightFM's, without what no page may show and filled up; else what is trending."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from bridge.domain.deadline import Clock, Deadline
from bridge.domain.page import FallbackReason, Page, PageQuery, PageRequest, RankedVideo, ServedBy
from bridge.feed.experiments import Algorithm, Assignment
from bridge.feed.seen_videos import SeenVideos
from bridge.recsvc_client.client import GaveUp, RecsvcClient
from bridge.trending.ranking import Barred, CurrentTrending
from bridge.visibility.hidden import Hidden
from servicekit.grpc.request_checks import MAX_PAGE_SIZE

FALLBACK_RESERVE_S: Final = 0.010
"""Kept of the caller's own time for the trending page and the way back."""
TRENDING_ALGORITHM: Final = "trending"
MAX_AUTHORS: Final = 100
"""Authors that recsvc can be asked to leave out; beyond, pages are of what is trending, whose authors are known."""
NOTHING_BARRED: Final[Barred] = lambda _, __: False  # noqa: E731  # a constant


class Reserve:
    """Computes the number of videos to ask for beyond a page: twice as many as pages have lately left out.

    Nothing is asked for beyond while nothing is left out.
    """

    _STEP: Final = 0.05
    _LEAST: Final = 0.0005

    def __init__(self) -> None:
        self._share = 0.0

    def of(self, page_size: int) -> int:
        """Return how many to ask for beyond a page."""
        if not self._share:
            return 0
        return min(math.ceil(2 * self._share * page_size), page_size, MAX_PAGE_SIZE - page_size)

    def note(self, received: int, left_out: int) -> None:
        """Note how many of the videos of a page were left out."""
        if left_out or self._share:
            self._share += self._STEP * (left_out / received - self._share)
            if self._share < self._LEAST:
                self._share = 0.0


class PageMaker:
    """Makes pages, which never fail.

    Args:
        recsvc: Asks LightFM.
        board: What is trending.
        clock: Monotonic seconds.
        budget_s: Seconds that LightFM may take for a page, retries included.
        seen: What users have seen lately.
        hidden: Says what no page may show; None where nothing is hidden.
    """

    def __init__(
        self,
        recsvc: RecsvcClient,
        board: CurrentTrending,
        clock: Clock,
        *,
        budget_s: float,
        seen: SeenVideos,
        hidden: Hidden | None,
    ) -> None:
        self._recsvc = recsvc
        self._board = board
        self._clock = clock
        self._budget_s = budget_s
        self._seen = seen
        self._hidden = hidden
        self._reserve = Reserve()

    async def page(self, wanted: PageRequest, arm: Assignment, caller_s: float | None) -> Page:
        """Return the page, at once after LightFM's deadline at the latest.

        Args:
            wanted: What is asked for.
            arm: How the user's pages are made.
            caller_s: Seconds until the caller's own deadline; None when the caller set none.
        """
        authors = self._hidden.unresolved_authors() if self._hidden else ()
        query = PageQuery(
            wanted, self._seen.of(wanted.user_id), arm.diversity, self._reserve.of(wanted.page_size), authors
        )
        if not wanted.user_id:
            return self._trending(query, FallbackReason.ANONYMOUS)
        if arm.algorithm is Algorithm.TRENDING:
            return self._trending(query, FallbackReason.EXPERIMENT)
        if len(authors) + len(wanted.filter.none_author_ids) > MAX_AUTHORS:
            return self._trending(query, FallbackReason.ERROR)
        deadline = lightfm_deadline(self._clock(), budget_s=self._budget_s, caller_s=caller_s)
        page = await self._recsvc.recommend(query, deadline)
        if isinstance(page, GaveUp):
            return self._trending(query, page.reason, page.attempts)
        if self._hidden:
            page = self._without_hidden(query, page, self._hidden)
        if page.videos:
            return page
        # The user has seen all that may be shown: better something again than an empty feed.
        again = self._trending(query, FallbackReason.EXHAUSTED, page.attempts)
        return again if again.videos else page

    def _without_hidden(self, query: PageQuery, page: Page, hidden: Hidden) -> Page:
        """Return the page without what may not be shown, filled up by what was asked for beyond it, or is trending."""
        size, received = query.request.page_size, page.videos
        videos = hidden.may_show(received, query.request.country)
        if len(videos) == len(received) <= size:
            self._reserve.note(len(received) or 1, 0)
            return page
        self._reserve.note(len(received), len(received) - len(videos))
        if len(videos) > size:
            return replace(page, videos=videos[:size], more=True)
        if not videos or len(videos) == size or len(received) < size:
            return replace(page, videos=videos)
        more, added = self._filling(query, videos, size - len(videos))
        return replace(page, videos=[*videos, *added], more=page.more or more)

    def _filling(
        self, query: PageQuery, videos: Sequence[RankedVideo], missing: int
    ) -> tuple[bool, Sequence[RankedVideo]]:
        """Return whether more are trending than the missing ones, and these, with no score above those on the page."""
        wanted = query.request
        served = (*wanted.served, *[video_id for video_id, _ in videos])
        trending = self._board.page(
            missing,
            video_filter=wanted.filter,
            served=served,
            seen=query.seen,
            surface=wanted.surface,
            barred=self._barred(query),
        )
        last = videos[-1].score
        return trending.more, [RankedVideo(video_id, min(last, score)) for video_id, score in trending.videos]

    def _trending(self, query: PageQuery, reason: FallbackReason, attempts: int = 0) -> Page:
        wanted = query.request
        page = self._board.page(
            wanted.page_size,
            video_filter=wanted.filter,
            served=wanted.served,
            seen=query.seen,
            surface=wanted.surface,
            barred=self._barred(query),
        )
        return Page(
            videos=page.videos,
            more=page.more,
            algorithm=TRENDING_ALGORITHM,
            served_by=ServedBy.TRENDING,
            fallback_reason=reason,
            attempts=attempts,
        )

    def _barred(self, query: PageQuery) -> Barred:
        return self._hidden.bars(query.request.country) if self._hidden else NOTHING_BARRED


def lightfm_deadline(now: float, *, budget_s: float, caller_s: float | None) -> Deadline:
    """Return the instant by which LightFM must have answered.

    Args:
        now: Monotonic seconds.
        budget_s: Seconds in which the page is due, retries included.
        caller_s: Seconds until the caller's own deadline; None when the caller set none.
    """
    due = budget_s if caller_s is None else min(budget_s, caller_s)
    return Deadline(now + due - FALLBACK_RESERVE_S)
