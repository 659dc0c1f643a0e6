"""CatalogueService over gRPC."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import psycopg
from grpc import StatusCode, aio

from bridge.catalogue import videos_table
from bridge.catalogue.list_token import decode_token, encode_token
from bridge.catalogue.protobuf import decode_video, encode_entry, encode_error, encode_hide, encode_upsert
from bridge.catalogue.storing import MAX_VIDEOS, VideoStore, repeated
from bridge.catalogue.takedowns import Hid, Takedowns
from bridge.catalogue.videos_table import Shown, Upserted
from bridge.catalogue.visibility_table import Lifted, NotLifted
from bridge.ingest.acknowledgement import NotDurableError
from bridge.postgres.pool import Database, DatabaseUnavailableError
from bridge.visibility.changes import Kind
from bridge.visibility.record import MAX_REASON_BYTES
from servicekit.grpc.errors import ServiceError, Violation, invalid_argument, not_found, unavailable
from servicekit.grpc.request_checks import Checker
from servicekit.inputs.identifiers import MAX_ID_BYTES, identifier_problem
from servicekit.telemetry.metrics import Metric, Metrics
from videowindow.feed.v1 import catalogue_pb2 as pb
from videowindow.feed.v1.catalogue_pb2_grpc import CatalogueServiceServicer

RETRY_AFTER_S: Final = 1.0
UNAVAILABLE: Final = "CATALOGUE_UNAVAILABLE"
STORE_S: Final = 10.0
"""Seconds to store videos; less when the caller's deadline is nearer."""
TAKEDOWN_S: Final = 5.0
REPLY_RESERVE_S: Final = 0.010
MAX_FIRST_ERRORS: Final = 100
_SHOWN: Final = {
    pb.VISIBILITY_FILTER_UNSPECIFIED: Shown.ALL,
    pb.VISIBILITY_FILTER_HIDDEN: Shown.HIDDEN,
    pb.VISIBILITY_FILTER_SHOWN: Shown.SHOWN,
}


class CatalogueService(CatalogueServiceServicer):
    """Keeps the catalogue.

    Args:
        store: Stores videos.
        takedowns: Hides and restores.
        database: Is read.
        metrics: Told what became of each video and author.
    """

    def __init__(self, store: VideoStore, takedowns: Takedowns, database: Database, metrics: Metrics) -> None:
        self._store = store
        self._takedowns = takedowns
        self._database = database
        self._metrics = metrics

    async def UpsertVideos(  # the name of the RPC
        self, request: pb.UpsertVideosRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.UpsertVideosResponse:
        """Return once the videos are stored."""
        _check_count(len(request.videos), "videos")
        return pb.UpsertVideosResponse(results=await self._stored(request.videos, 0, context))

    async def ImportVideos(  # the name of the RPC
        self, request_iterator: AsyncIterator[pb.ImportVideosRequest], context: aio.ServicerContext[Any, Any]
    ) -> pb.ImportVideosResponse:
        """Return once all videos of the stream are stored."""
        reply = pb.ImportVideosResponse()
        async for request in request_iterator:
            _check_count(len(request.videos), "videos", least=0)
            for result in await self._stored(request.videos, reply.received, context):
                _count_result(result, reply)
            reply.received += len(request.videos)
        return reply

    async def HideVideos(  # the name of the RPC
        self, request: pb.HideVideosRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.HideVideosResponse:
        """Return once the hides are durable."""
        return pb.HideVideosResponse(
            results=await self._hidden(Kind.VIDEO, request.video_ids, "video_ids", request, context)
        )

    async def HideAuthors(  # the name of the RPC
        self, request: pb.HideAuthorsRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.HideAuthorsResponse:
        """Return once the hides are durable."""
        return pb.HideAuthorsResponse(
            results=await self._hidden(Kind.AUTHOR, request.author_ids, "author_ids", request, context)
        )

    async def RestoreVideos(  # the name of the RPC
        self, request: pb.RestoreVideosRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.RestoreVideosResponse:
        """Return once the restorations are durable."""
        return pb.RestoreVideosResponse(results=await self._restored(Kind.VIDEO, request, context))

    async def RestoreAuthors(  # the name of the RPC
        self, request: pb.RestoreAuthorsRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.RestoreAuthorsResponse:
        """Return once the restorations are durable."""
        return pb.RestoreAuthorsResponse(results=await self._restored(Kind.AUTHOR, request, context))

    async def GetVideo(  # the name of the RPC
        self, request: pb.GetVideoRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.GetVideoResponse:
        """Return what is stored of a video."""
        checker = Checker()
        checker.identifier(request.video_id, "video_id")
        checker.finish()
        try:
            async with self._database.statements() as connection:
                entries = await videos_table.read(connection, [request.video_id])
        except DatabaseUnavailableError:
            raise _away() from None
        if not entries:
            raise not_found("video", request.video_id)
        return pb.GetVideoResponse(video=encode_entry(entries[0]))

    async def ListVideos(  # the name of the RPC
        self, request: pb.ListVideosRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.ListVideosResponse:
        """Return videos in the order of their ids."""
        checker = Checker()
        page_size = checker.page_size(request.page_size)
        if request.author_id:
            checker.identifier(request.author_id, "author_id")
        shown = _SHOWN.get(request.visibility)
        checker.require(shown is not None, "visibility", f"is {request.visibility}, which is no known filter")
        checker.finish()
        filters = f"{request.visibility}\n{request.author_id}"
        after = decode_token(request.page_token, filters)
        try:
            async with self._database.connection() as connection:
                ids = await videos_table.list_ids(
                    connection, shown or Shown.ALL, author_id=request.author_id, after=after, most=page_size + 1
                )
                entries = await videos_table.read(connection, ids[:page_size])
        except (DatabaseUnavailableError, psycopg.errors.QueryCanceled):
            raise _away() from None
        token = encode_token(ids[page_size - 1], filters) if len(ids) > page_size else ""
        return pb.ListVideosResponse(videos=map(encode_entry, entries), next_page_token=token)

    async def _stored(
        self, videos: Sequence[pb.CatalogueVideo], first: int, context: aio.ServicerContext[Any, Any]
    ) -> list[pb.UpsertResult]:
        given = [decode_video(video, f"videos[{first + place}]") for place, video in enumerate(videos)]
        try:
            outcomes = await self._store.store(given, timeout_s=_allowed(STORE_S, context.time_remaining()))
        except NotDurableError as error:
            raise unavailable(UNAVAILABLE, str(error), retry_after_s=RETRY_AFTER_S) from None
        for outcome in outcomes:
            self._count(outcome.change.name.lower() if isinstance(outcome, Upserted) else "refused")
        return [
            encode_upsert(first + place, one.video.video_id, outcome)
            for place, (one, outcome) in enumerate(zip(given, outcomes, strict=True))
        ]

    async def _hidden(
        self,
        kind: Kind,
        names: Sequence[str],
        path: str,
        request: pb.HideVideosRequest | pb.HideAuthorsRequest,
        context: aio.ServicerContext[Any, Any],
    ) -> list[pb.HideResult]:
        _check_count(len(names), path)
        _check_origin(request.reason, request.actor)
        errors = _wrong_names(names, lambda place: f"{path}[{place}]")
        good = [name for place, name in enumerate(names) if place not in errors]
        outcomes: Mapping[str, Hid] = {}
        if good:
            try:
                outcomes = await self._takedowns.hide(
                    kind,
                    good,
                    reason=request.reason,
                    actor=request.actor,
                    timeout_s=_allowed(TAKEDOWN_S, context.time_remaining()),
                )
            except NotDurableError as error:
                raise unavailable(UNAVAILABLE, str(error), retry_after_s=RETRY_AFTER_S) from None
        self._count("hidden", len(outcomes))
        self._count("refused", len(names) - len(outcomes))
        return [
            encode_hide(place, name, errors.get(place) or outcomes.get(name) or _away())
            for place, name in enumerate(names)
        ]

    async def _restored(
        self,
        kind: Kind,
        request: pb.RestoreVideosRequest | pb.RestoreAuthorsRequest,
        context: aio.ServicerContext[Any, Any],
    ) -> list[pb.RestoreResult]:
        given = request.restorations
        _check_count(len(given), "restorations")
        _check_origin(request.reason, request.actor)
        errors = _wrong_names([one.id for one in given], lambda place: f"restorations[{place}].id")
        wanted = {}
        for place, one in enumerate(given):
            if one.hide_revision <= 0:
                path = f"restorations[{place}].hide_revision"
                errors.setdefault(place, invalid_argument(Violation(path, "is required, as the hide's reply had it")))
            elif place not in errors:
                wanted[one.id] = one.hide_revision
        outcomes: Mapping[str, Lifted | NotLifted] = {}
        if wanted:
            try:
                outcomes = await self._takedowns.restore(
                    kind,
                    wanted,
                    reason=request.reason,
                    actor=request.actor,
                    timeout_s=_allowed(TAKEDOWN_S, context.time_remaining()),
                )
            except NotDurableError as error:
                raise unavailable(UNAVAILABLE, str(error), retry_after_s=RETRY_AFTER_S) from None
        results = [_restoration(place, one, errors.get(place), outcomes, kind) for place, one in enumerate(given)]
        for result in results:
            self._count("restored" if result.HasField("restored") else "refused")
        return results

    def _count(self, change: str, count: int = 1) -> None:
        if count:
            self._metrics.count(Metric.CATALOGUE_CHANGES, count, tags=[f"change:{change}"])


def _restoration(
    place: int,
    given: pb.Restoration,
    error: ServiceError | None,
    outcomes: Mapping[str, Lifted | NotLifted],
    kind: Kind,
) -> pb.RestoreResult:
    outcome = outcomes.get(given.id)
    if error is None and isinstance(outcome, Lifted):
        lifted = pb.HideLifted(revision=outcome.revision, changed=outcome.changed)
        return pb.RestoreResult(index=place, id=given.id, restored=lifted)
    if error is None:
        error = _not_lifted(kind, given, outcome.later_revision if isinstance(outcome, NotLifted) else 0)
    return pb.RestoreResult(index=place, id=given.id[:MAX_ID_BYTES], error=encode_error(error))


def _not_lifted(kind: Kind, given: pb.Restoration, later_revision: int) -> ServiceError:
    if not later_revision:
        return not_found("hide", f"{kind} {given.id} by revision {given.hide_revision}")
    text = f"{kind} {given.id!r} was hidden again by revision {later_revision}: name that one to restore it"
    return ServiceError(StatusCode.FAILED_PRECONDITION, "HIDE_SUPERSEDED", text)


def _wrong_names(names: Sequence[str], path: Callable[[int], str]) -> dict[int, ServiceError]:
    """Return what is wrong with ids, by their places; the second of two is refused."""
    errors: dict[int, ServiceError] = {}
    seen: set[str] = set()
    for place, name in enumerate(names):
        if problem := identifier_problem(name):
            errors[place] = invalid_argument(Violation(path(place), problem))
        elif name in seen:
            errors[place] = repeated(path(place), name)
        seen.add(name)
    return errors


def _check_count(count: int, path: str, *, least: int = 1) -> None:
    if not least <= count <= MAX_VIDEOS:
        raise invalid_argument(Violation(path, f"has {count} entries, must have from {least} to {MAX_VIDEOS}"))


def _check_origin(reason: str, actor: str) -> None:
    checker = Checker()
    if not reason or len(reason.encode()) > MAX_REASON_BYTES or "\0" in reason:
        checker.report("reason", f"must be a text of 1 to {MAX_REASON_BYTES} bytes without the character NUL")
    checker.identifier(actor, "actor")
    checker.finish()


def _count_result(result: pb.UpsertResult, reply: pb.ImportVideosResponse) -> None:
    if result.HasField("error"):
        reply.refused += 1
        if len(reply.first_errors) < MAX_FIRST_ERRORS:
            reply.first_errors.append(result)
    elif result.stored.change == pb.VIDEO_CHANGE_CREATED:
        reply.created += 1
    elif result.stored.change == pb.VIDEO_CHANGE_UPDATED:
        reply.updated += 1
    else:
        reply.unchanged += 1


def _allowed(budget_s: float, caller_s: float | None) -> float:
    return budget_s if caller_s is None else min(budget_s, caller_s - REPLY_RESERVE_S)


def _away() -> ServiceError:
    return unavailable(UNAVAILABLE, "the catalogue cannot be reached now", retry_after_s=RETRY_AFTER_S)
