"""Calls of the catalogue that its benchmarks share."""

from collections.abc import Iterable, Sequence
from typing import Any

from grpc import aio

from videowindow.feed.v1 import catalogue_pb2 as pb
from videowindow.feed.v1.catalogue_pb2_grpc import CatalogueServiceStub

TIMEOUT_S = 30.0


def video(number: int, *, version: int = 0) -> pb.CatalogueVideo:
    """Return a video like those of a feed."""
    made = pb.CatalogueVideo(
        video_id=f"video-{number:08}",
        author_id=f"author-{number % 9973}",
        tags=[f"topic{number % 97}", f"mood{number % 89}", "all"],
        language="en",
        duration_ms=15_000 + number % 60_000 + version,
        age_rating=number % 18,
    )
    made.published_at.FromSeconds(1_700_000_000 + number)
    made.attributes["licence"].text = "standard"
    made.attributes["weight"].number = number % 10
    return made


def stub(channel: aio.Channel) -> Any:
    """Return the calls."""
    return CatalogueServiceStub(channel)


async def hide(catalogue: Any, video_ids: Iterable[str]) -> Sequence[pb.HideResult]:
    """Hide videos, and return one result a video."""
    request = pb.HideVideosRequest(video_ids=video_ids, reason="benchmark", actor="benchmark")
    results: Sequence[pb.HideResult] = (await catalogue.HideVideos(request, timeout=TIMEOUT_S)).results
    return results


async def restore(catalogue: Any, results: Iterable[pb.HideResult]) -> None:
    """Lift hides by their results."""
    restorations = [pb.Restoration(id=one.id, hide_revision=one.hidden.revision) for one in results]
    request = pb.RestoreVideosRequest(restorations=restorations, reason="benchmark", actor="benchmark")
    await catalogue.RestoreVideos(request, timeout=TIMEOUT_S)
