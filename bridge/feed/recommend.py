"""The ladder of the feed: LightFM, else what is trending."""

from typing import Final

from bridge.domain.deadline import Deadline
from bridge.domain.page import FallbackReason, Page, PageQuery, ServedBy
from bridge.recsvc_client.client import LightFm, LightFmPage, encode_query
from bridge.recsvc_client.resilient_call import Answered, Resilience
from bridge.trending.ranking import CurrentTrending

TRENDING_ALGORITHM: Final = "trending"


class Recommendations:
    """Makes pages that never fail.

    Args:
        lightfm: Ranks for a user.
        resilience: Guards the calls to it.
        board: What is trending.
    """

    def __init__(self, lightfm: LightFm, resilience: Resilience, board: CurrentTrending) -> None:
        self._lightfm = lightfm
        self._resilience = resilience
        self._board = board

    async def page(self, query: PageQuery, deadline: Deadline) -> Page:
        """Return the user's next page, at once after the deadline at the latest."""
        attempt = self._lightfm.attempts(encode_query(query))
        outcome = await self._resilience.call(attempt, deadline, replicas=self._lightfm.replicas)
        if not isinstance(outcome, Answered):
            return self.trending(query, outcome.reason, outcome.attempts)
        page = _personal(outcome.reply, outcome.attempts)
        if page.videos:
            return page
        # The user has seen all that may be shown: better something again than an empty feed.
        again = self.trending(query, FallbackReason.EXHAUSTED, outcome.attempts)
        return again if again.videos else page

    def trending(self, query: PageQuery, reason: FallbackReason, attempts: int = 0) -> Page:
        """Return a page of what is trending, for a reason."""
        page = self._board.page(
            query.page_size,
            video_filter=query.filter,
            served=query.served,
            seen=query.seen,
            surface=query.surface,
        )
        return Page(
            videos=page.videos,
            more=page.more,
            algorithm=TRENDING_ALGORITHM,
            served_by=ServedBy.TRENDING,
            fallback_reason=reason,
            attempts=attempts,
        )


def _personal(page: LightFmPage, attempts: int) -> Page:
    return Page(
        videos=page.videos,
        more=page.more,
        algorithm=page.algorithm,
        served_by=ServedBy.LIGHTFM,
        model_version=page.model_version,
        attempts=attempts,
    )
