"""Lists videos similar to a given one, a page at a time."""

from dataclasses import dataclass

from modelstore.id_map import UNKNOWN
from recsvc.model.live_model import LiveModel
from recsvc.pages.page_token import MAX_POSITION, NOTHING, decode, encode
from recsvc.pages.request_exclusions import RequestExclusions
from recsvc.ranking.filters import VideoFilter
from servicekit.grpc.errors import not_found


@dataclass(frozen=True, kw_only=True, slots=True)
class SimilarQuery:
    """The query for a page of similar videos."""

    video_id: str
    page_size: int
    """Videos wanted, at least 1."""
    digest: bytes
    """Digest of all that must stay the same from page to page."""
    page_token: str = ""
    video_filter: VideoFilter | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SimilarPage:
    """One page of similar videos."""

    video_ids: list[str]
    """Most similar first."""
    cosines: list[float]
    next_page_token: str
    """Empty on the last page."""
    model_version: str


def similar_videos(live: LiveModel, query: SimilarQuery) -> SimilarPage:
    """Return the next page of similar videos.

    ServiceError: NOT_FOUND for an unknown video, UNAVAILABLE without a model, INVALID_ARGUMENT for a bad page token.
    """
    serving = live.get()
    row = serving.model.videos.row(query.video_id)
    if row == UNKNOWN:
        raise not_found("video", query.video_id)
    served = decode(query.page_token, query.digest).served if query.page_token else NOTHING
    count = min(query.page_size, MAX_POSITION - len(served))
    mask = serving.masks.blocked(query.video_filter) if query.video_filter else None
    barred = RequestExclusions(served, mask=mask).barred(serving.fingerprints)
    # One more than wanted tells whether there is a next page.
    ranked = serving.neighbours.nearest(row, count + 1, barred)
    page = ranked.head(count)
    more = len(ranked) > count and len(served) + count < MAX_POSITION
    marks, version = serving.fingerprints.of_rows, serving.manifest.version
    return SimilarPage(
        video_ids=serving.model.videos.ids(page.rows),
        cosines=page.scores.tolist(),
        next_page_token=encode(version, query.digest, served, marks[page.rows]) if more else "",
        model_version=version,
    )
