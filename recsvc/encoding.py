"""From pages and manifests to protobuf replies."""

from datetime import datetime
from functools import lru_cache
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from recsvc.artefact import Manifest
from recsvc.recommender import Page
from recsvc.viewers import ViewerState
from videowindow.lightfm.v2025_9 import lightfm_recommendation_pb2 as pb

_STATES: Final = {
    ViewerState.TRAINED: pb.USER_STATE_TRAINED,
    ViewerState.FOLDED_IN: pb.USER_STATE_FOLDED_IN,
    ViewerState.COLD: pb.USER_STATE_COLD,
}


def recommend_response(page: Page) -> pb.RecommendResponse:
    """Return the reply for a page."""
    return pb.RecommendResponse(
        videos=[
            pb.ScoredVideo(video_id=video_id, score=score)
            for video_id, score in zip(page.video_ids, page.scores, strict=True)
        ],
        next_page_token=page.next_page_token,
        algorithm=page.algorithm,
        model_version=page.model_version,
        model_trained_at=_timestamp(page.model_trained_at),
        user_state=_STATES[page.viewer_state],
    )


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


@lru_cache(64)
def _timestamp(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message
