"""The ladder of the feed: LightFM, else what is trending."""

from bridge.codes import FallbackReason
from bridge.deadline import Deadline
from bridge.lightfm import LightFm, LightFmPage, encode_query
from bridge.page import Page, PageQuery, ServedBy
from bridge.resilience import Answered, Resilience
from bridge.trending import TrendingBoard
from servicekit.telemetry import Metric, Metrics

TRENDING_ALGORITHM = "trending"


class Feed:
    """Makes pages that never fail.

    Args:
        lightfm: Ranks for a viewer.
        resilience: Guards the calls to it.
        board: What is trending.
        metrics: Told of each page that LightFM did not rank.
    """

    def __init__(
        self,
        lightfm: LightFm,
        resilience: Resilience,
        board: TrendingBoard,
        metrics: Metrics,
    ) -> None:
        self._lightfm = lightfm
        self._resilience = resilience
        self._board = board
        self._metrics = metrics

    async def page(self, query: PageQuery, deadline: Deadline) -> Page:
        """Return the viewer's next page, at once after the deadline at the latest."""
        request = encode_query(query)
        outcome = await self._resilience.call(lambda timeout_s: self._lightfm.page(request, timeout_s), deadline)
        if isinstance(outcome, Answered):
            return _personal(outcome.reply, outcome.attempts)
        self._metrics.count(Metric.FALLBACK, tags=[f"reason:{outcome.reason}"])
        return self._trending(query, outcome.reason, outcome.attempts)

    def _trending(self, query: PageQuery, reason: FallbackReason, attempts: int) -> Page:
        page = self._board.page(query.page_size, video_filter=query.filter, served=query.served)
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
