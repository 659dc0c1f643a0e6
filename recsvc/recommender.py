"""Recommends videos: one page of one viewer's feed at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from recsvc.filters import VideoFilter
from recsvc.idmap import UNKNOWN
from recsvc.live import LiveModel
from recsvc.page_token import MAX_POSITION, PageToken, decode
from recsvc.ranking import Barred, Ranked
from recsvc.serving_model import ServingModel
from recsvc.viewers import Viewer, ViewerState


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedQuery:
    """What a page is asked for with."""

    user_id: str
    page_size: int
    """Videos wanted, at least 1."""
    digest: bytes
    """Digest of all that must stay the same from page to page."""
    page_token: str = ""
    """Of the page before; empty for the first page."""
    video_filter: VideoFilter | None = None
    exclude_video_ids: Sequence[str] = ()
    include_seen: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One page of a feed."""

    video_ids: list[str]
    """Best first."""
    scores: list[float]
    next_page_token: str
    """Empty on the last page."""
    algorithm: str
    model_version: str
    model_trained_at: datetime
    viewer_state: ViewerState


class Recommender:
    """Answers feed queries with the live model.

    Args:
        live: Holds the model.
    """

    def __init__(self, live: LiveModel) -> None:
        self._live = live

    def recommend(self, query: FeedQuery) -> Page:
        """Return the next page; shorter than asked for only when the feed ends there.

        ServiceError: UNAVAILABLE without a model, INVALID_ARGUMENT for a bad page token.
        """
        serving = self._live.get()
        token = decode(query.page_token, query.digest) if query.page_token else None
        served = token.served if token else np.empty(0, np.uint32)
        viewer = serving.viewer(query.user_id)
        count = min(query.page_size, MAX_POSITION - len(served))
        # One more than wanted tells whether there is a next page.
        ranked = serving.ranker.top(viewer, count + 1, _barred(serving, query, viewer, served))
        page = ranked.head(count)
        more = len(ranked) > count and len(served) + count < MAX_POSITION
        return _page(serving, viewer, page, _next_token(serving, query, served, page) if more else "")


def _barred(serving: ServingModel, query: FeedQuery, viewer: Viewer, served: NDArray[np.uint32]) -> Barred:
    rows: list[NDArray[np.integer]] = []
    if not query.include_seen:
        rows.append(viewer.seen)
    if query.exclude_video_ids:
        excluded = serving.model.videos.rows(query.exclude_video_ids)
        rows.append(excluded[excluded != UNKNOWN])
    if len(served):
        rows.append(serving.fingerprints.rows(served))
    mask = serving.masks.blocked(query.video_filter) if query.video_filter else None
    return Barred(tuple(rows), mask)


def _next_token(serving: ServingModel, query: FeedQuery, served: NDArray[np.uint32], page: Ranked) -> str:
    return PageToken(
        model_version=serving.manifest.version,
        digest=query.digest,
        served=np.concatenate((served, serving.fingerprints.of(page.rows))),
    ).encode()


def _page(serving: ServingModel, viewer: Viewer, page: Ranked, next_page_token: str) -> Page:
    manifest = serving.manifest
    return Page(
        video_ids=serving.model.videos.ids(page.rows),
        scores=page.scores.tolist(),
        next_page_token=next_page_token,
        algorithm=manifest.algorithm,
        model_version=manifest.version,
        model_trained_at=manifest.trained_at,
        viewer_state=viewer.state,
    )
