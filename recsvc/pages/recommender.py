"""Recommends videos: one page of one user's feed at a time, or of many users at once."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from modelstore.id_map import UNKNOWN
from recsvc.domain.interaction import Interaction
from recsvc.domain.user import COLD, User, UserState
from recsvc.model.live_model import LiveModel
from recsvc.model.serving_model import ServingModel
from recsvc.pages.explanations import Reason, Reasons
from recsvc.pages.page_token import MAX_POSITION, NOTHING, decode, encode
from recsvc.pages.request_exclusions import NO_ROWS, RequestExclusions
from recsvc.pages.shortlist_cache import LENGTH, Shortlists
from recsvc.ranking.diversity import diversify, pool_size
from recsvc.ranking.exact import Ranked, RankingQuery
from recsvc.ranking.filters import VideoFilter
from recsvc.users.directory import UserDirectory
from servicekit.grpc.errors import ServiceError

MAX_TOGETHER: Final = 64
"""Queries that share one product."""
SCORES_TOGETHER: Final = 1 << 22
"""Scores held at once for them."""


class FeedQuery(NamedTuple):
    """The query for a page."""

    user_id: str
    page_size: int
    """Videos wanted, at least 1."""
    digest: bytes
    """Digest of all that must stay the same from page to page."""
    page_token: str = ""
    """Of the page before; empty for the first page."""
    explain: bool = False
    surface: str = ""
    """Where the page is shown, for logs."""
    request_id: str = ""
    """The caller's name for the request, for logs."""
    video_filter: VideoFilter | None = None
    exclude_video_ids: Sequence[str] = ()
    include_seen: bool = False
    recent: tuple[Interaction, ...] = ()
    """What the user did since the model was trained, oldest first."""
    diversity: float = 0.0
    """0 to 1."""


class Page(NamedTuple):
    """One page of a feed."""

    serving: ServingModel
    """The model that ranked."""
    ranked: Ranked
    """The page's videos."""
    user_state: UserState
    next_page_token: str
    """Empty on the last page."""
    reasons: Sequence[list[Reason]] = ()
    """One list a video, or none at all."""

    @property
    def video_ids(self) -> list[str]:
        """Return the videos, best first."""
        return self.serving.model.videos.ids(self.ranked.rows)

    @property
    def scores(self) -> list[float]:
        """Return the videos' scores."""
        scores: list[float] = self.ranked.scores.tolist()
        return scores

    @property
    def algorithm(self) -> str:
        """Return the name of the training algorithm."""
        return self.serving.manifest.algorithm

    @property
    def model_version(self) -> str:
        """Return the model's version."""
        return self.serving.manifest.version

    @property
    def model_trained_at(self) -> datetime:
        """Return when the model was trained."""
        return self.serving.manifest.trained_at


class _Plan(NamedTuple):
    """A query in terms of one model."""

    query: FeedQuery
    user: User
    unwanted: RequestExclusions
    size: int
    """Videos of this page."""
    sought: int
    """Videos to find: more, to choose from and to see whether there is a next page."""

    def wish(self, serving: ServingModel) -> RankingQuery:
        """Return the query for the ranking."""
        seen = () if self.query.include_seen else (self.user.seen,)
        return RankingQuery(self.user, self.sought, self.unwanted.barred(serving.fingerprints, *seen))


class Recommender:
    """Answers feed queries with the live model.

    Args:
        live: Holds the model.
        directory: Knows the users.
    """

    def __init__(self, live: LiveModel, directory: UserDirectory) -> None:
        self._live = live
        self._directory = directory
        self._shortlists = Shortlists()
        self.adopt = self._shortlists.adopt

    def recommend(self, query: FeedQuery) -> Page:
        """Return the next page; shorter than asked for only when the feed ends there.

        ServiceError: UNAVAILABLE without a model, INVALID_ARGUMENT for a bad page token.
        """
        serving = self._live.get()
        plan = self._plan(serving, query)
        return _page(serving, plan, self._ranked(serving, plan))

    def recommend_many(self, queries: Sequence[FeedQuery]) -> Iterator[Page | ServiceError]:
        """Yield the result of `recommend`, or the error that it raises, for each query, in order."""
        start = 0
        while start < len(queries):
            serving = self._live.get()
            end = start + max(1, min(MAX_TOGETHER, SCORES_TOGETHER // len(serving.model.videos)))
            yield from self._together(serving, queries[start:end])
            start = end

    def score(self, user_id: str, video_ids: Sequence[str]) -> tuple[list[float | None], str, UserState]:
        """Return one score a video, None if it is unknown, with the model's version and the user's state."""
        serving = self._live.get()
        user = self._directory.user(serving, user_id)
        rows = serving.model.videos.rows(video_ids)
        known = rows != UNKNOWN
        found = iter(serving.ranker.scores_of(user, rows[known]).tolist())
        return [next(found) if one else None for one in known.tolist()], serving.manifest.version, user.state

    def _ranked(self, serving: ServingModel, plan: _Plan) -> Ranked:
        query, user = plan.query, plan.user
        # What was told with one request makes a user of that request only; strangers are all one user.
        if query.include_seen or query.recent or plan.sought > LENGTH // 2:
            wish = plan.wish(serving)
            return serving.ranker.top(user, wish.count, wish.barred)
        name = "" if user is COLD else query.user_id
        return self._shortlists.top(serving, name, user, plan.sought, plan.unwanted)

    def _together(self, serving: ServingModel, queries: Sequence[FeedQuery]) -> Iterator[Page | ServiceError]:
        plans: list[_Plan | ServiceError] = []
        for query in queries:
            try:
                plans.append(self._plan(serving, query))
            except ServiceError as error:
                plans.append(error)
        ranked = iter(serving.ranker.top_many([plan.wish(serving) for plan in plans if isinstance(plan, _Plan)]))
        for plan in plans:
            yield _page(serving, plan, next(ranked)) if isinstance(plan, _Plan) else plan

    def _plan(self, serving: ServingModel, query: FeedQuery) -> _Plan:
        served = decode(query.page_token, query.digest).served if query.page_token else NOTHING
        user = self._directory.user(serving, query.user_id, query.recent)
        excluded = NO_ROWS
        if query.exclude_video_ids:
            rows = serving.model.videos.rows(query.exclude_video_ids)
            excluded = rows[rows != UNKNOWN]
        mask = serving.masks.blocked(query.video_filter) if query.video_filter else None
        count = min(query.page_size, MAX_POSITION - len(served))
        # One more than wanted tells whether there is a next page.
        sought = pool_size(count) if query.diversity else count + 1
        return _Plan(query, user, RequestExclusions(served, excluded, mask), count, sought)


def _page(serving: ServingModel, plan: _Plan, ranked: Ranked) -> Page:
    query, user, served = plan.query, plan.user, plan.unwanted.served
    page = _diverse(serving, plan, ranked) if query.diversity else ranked.head(plan.size)
    more = len(ranked.rows) > plan.size and len(served) + plan.size < MAX_POSITION
    marks = serving.fingerprints.of_rows
    token = encode(serving.manifest.version, query.digest, served, marks[page.rows]) if more else ""
    return Page(serving, page, user.state, token, _reasons(serving, user, page) if query.explain else ())


def _diverse(serving: ServingModel, plan: _Plan, ranked: Ranked) -> Ranked:
    directions = serving.neighbours.directions(ranked.rows)
    places = diversify(ranked.scores, directions, plan.size, plan.query.diversity)
    return Ranked(ranked.rows[places], ranked.scores[places])


def _reasons(serving: ServingModel, user: User, page: Ranked) -> list[list[Reason]]:
    reasons = Reasons(serving, user)
    return [reasons.of(row) for row in page.rows.tolist()]
