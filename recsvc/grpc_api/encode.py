"""Converts pages and manifests to protobuf replies."""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from modelstore.artefact import Manifest
from recsvc import wire_format
from recsvc.domain.user import UserState
from recsvc.pages.explanations import Reason, ReasonKind
from recsvc.pages.recommender import Page
from recsvc.pages.similar_videos import SimilarPage
from recsvc.profile_updates.recorder import Durability
from recsvc.users.directory import ProfileSummary
from servicekit.grpc.errors import ServiceError
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

_STATES: Final = {
    UserState.TRAINED: pb.USER_STATE_TRAINED,
    UserState.FOLDED_IN: pb.USER_STATE_FOLDED_IN,
    UserState.COLD: pb.USER_STATE_COLD,
}
_REASONS: Final = {
    ReasonKind.SIMILAR_VIDEO: pb.REASON_KIND_SIMILAR_VIDEO,
    ReasonKind.TAG: pb.REASON_KIND_TAG,
    ReasonKind.AUTHOR: pb.REASON_KIND_AUTHOR,
    ReasonKind.TRENDING: pb.REASON_KIND_TRENDING,
}
DURABLE_ON: Final = {
    Durability.KAFKA: pb.DURABLE_ON_KAFKA,
    Durability.MACHINE: pb.DURABLE_ON_MACHINE,
}


def recommend_reply(page: Page) -> bytes:
    """Return the reply for a page, serialised."""
    if page.reasons:
        return recommend_response(page).SerializeToString()
    ranked, manifest = page.ranked, page.serving.manifest
    tail = wire_format.tail(manifest.algorithm, manifest.version, manifest.trained_at, _STATES[page.user_state])
    return wire_format.reply(page.serving.heads[ranked.rows].tolist(), ranked.scores, page.next_page_token, tail)


def recommend_response(page: Page) -> pb.RecommendResponse:
    """Return the reply for a page."""
    reply = pb.RecommendResponse(
        next_page_token=page.next_page_token,
        algorithm=page.algorithm,
        model_version=page.model_version,
        model_trained_at=_timestamp(page.model_trained_at),
        user_state=_STATES[page.user_state],
    )
    _add_videos(reply, page.video_ids, page.scores)
    for video, reasons in zip(reply.videos, page.reasons, strict=False):  # none at all unless asked for
        video.reasons.extend(map(_reason, reasons))
    return reply


def batch_response(index: int, outcome: Page | ServiceError) -> pb.BatchRecommendResponse:
    """Return the reply for one request of a batch."""
    if isinstance(outcome, ServiceError):
        return pb.BatchRecommendResponse(index=index, error=_request_error(outcome))
    return pb.BatchRecommendResponse(index=index, response=recommend_response(outcome))


def score_response(
    video_ids: Iterable[str], scores: Iterable[float | None], version: str, state: UserState
) -> pb.ScoreVideosResponse:
    """Return the reply for scores; a score of None marks an unknown video."""
    return pb.ScoreVideosResponse(
        scores=[
            pb.VideoScore(video_id=video_id, known=score is not None, score=score or 0.0)
            for video_id, score in zip(video_ids, scores, strict=True)
        ],
        model_version=version,
        user_state=_STATES[state],
    )


def similar_response(page: SimilarPage) -> pb.ListSimilarVideosResponse:
    """Return the reply for a page of similar videos."""
    reply = pb.ListSimilarVideosResponse(next_page_token=page.next_page_token, model_version=page.model_version)
    _add_videos(reply, page.video_ids, page.cosines)
    return reply


def profile_message(summary: ProfileSummary) -> pb.UserProfile:
    """Return the description of a user."""
    message = pb.UserProfile(
        user_id=summary.user_id,
        state=_STATES[summary.state],
        interaction_count=summary.interaction_count,
        seen_count=summary.seen_count,
        top_tags=summary.top_tags,
    )
    message.updated_at.FromMilliseconds(summary.updated_at_ms)
    if summary.known_until_ms is not None:
        message.known_until.FromMilliseconds(summary.known_until_ms)
    return message


def model_message(manifest: Manifest, *, live: bool) -> pb.Model:
    """Return the description of a model."""
    return pb.Model(
        version=manifest.version,
        trained_at=_timestamp(manifest.trained_at),
        user_count=manifest.user_count,
        video_count=manifest.video_count,
        interaction_count=manifest.interaction_count,
        dimensions=manifest.dimensions,
        metrics=manifest.metrics,
        format=manifest.format,
        live=live,
        algorithm=manifest.algorithm,
        popularity_weight=manifest.popularity_weight,
        data_until=_timestamp(manifest.data_until),
    )


def _add_videos(
    reply: pb.RecommendResponse | pb.ListSimilarVideosResponse, video_ids: Iterable[str], scores: Iterable[float]
) -> None:
    add = reply.videos.add  # half the time of messages that are made first and copied then
    for video_id, score in zip(video_ids, scores, strict=True):
        add(video_id=video_id, score=score)


def _reason(reason: Reason) -> pb.Reason:
    return pb.Reason(kind=_REASONS[reason.kind], text=reason.text, weight=reason.weight)


def _request_error(error: ServiceError) -> pb.RequestError:
    code: int = error.code.value[0]
    field = error.violations[0].field if error.violations else ""
    return pb.RequestError(code=code, reason=error.reason, message=error.message, field=field)


@lru_cache(64)
def _timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message
