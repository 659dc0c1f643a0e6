"""Serves PlaybackService over gRPC."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from grpc import aio

from bridge.domain.interaction import check_timestamp
from bridge.ingest.acknowledgement import NotDurableError
from bridge.ingest.interaction_stream import RETRY_AFTER_S, UNAVAILABLE
from bridge.ingest.protobuf import Stamped, decode_instant, decode_uuid, to_milliseconds
from bridge.ingest.transactional_write import TransactionalWriter, Work
from bridge.playback.position_sync import NoPositionSync, PositionListener
from bridge.playback.sessions import OtherSessionError, Position, Session, SessionEnd, UnknownSessionError
from servicekit.grpc.errors import Violation, invalid_argument, not_found, unavailable
from servicekit.grpc.request_checks import Checker
from videowindow.feed.v1 import playback_pb2 as pb
from videowindow.feed.v1.playback_pb2_grpc import PlaybackServiceServicer

T = TypeVar("T")
AWAY = "playback sessions are kept in Postgres, which does not answer now"
"""A position or an end means nothing without its session, so Kafka cannot stand in as it does for interactions."""
MAX_MS = 2**53
"""Milliseconds that a JSON number holds exactly."""


class PlaybackService(PlaybackServiceServicer):
    """Records playback sessions.

    Args:
        writer: Makes events durable.
        budget_s: Seconds that this may take.
        positions: Called with each position.
        now: The time of day (UTC).
    """

    def __init__(
        self,
        writer: TransactionalWriter,
        *,
        budget_s: float,
        positions: PositionListener | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._writer = writer
        self._budget_s = budget_s
        self._positions = positions or NoPositionSync()
        self._now = now

    async def CreateSession(
        self, request: pb.CreateSessionRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.CreateSessionResponse:
        """Return once the session is durable."""
        checker = Checker()
        checker.identifier(request.user_id, "user_id")
        checker.identifier(request.video_id, "video_id")
        checker.require(0 < request.duration_ms <= MAX_MS, "duration_ms", f"is {request.duration_ms}, must be positive")
        if request.feed_session_id:
            checker.identifier(request.feed_session_id, "feed_session_id")
        session = Session(
            session_id=decode_uuid(request.session_id, checker, "session_id"),
            user_id=request.user_id,
            video_id=request.video_id,
            duration_ms=request.duration_ms,
            started_at=self._instant(request, checker),
            feed_session_id=request.feed_session_id,
        )
        checker.finish()
        try:
            await self._write(session.create, request.session_id)
        except OtherSessionError:
            raise invalid_argument(Violation("session_id", "is that of another session")) from None
        return pb.CreateSessionResponse(session_id=str(session.session_id))

    async def UpdatePosition(
        self, request: pb.UpdatePositionRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.UpdatePositionResponse:
        """Return once the position is durable."""
        checker = Checker()
        position = Position(
            session_id=_known_id(request.session_id, checker),
            position_ms=_milliseconds(request.position_ms, checker, "position_ms"),
            at=self._instant(request, checker),
        )
        checker.finish()
        self._positions.forward(request)
        await self._write(position.update, request.session_id)
        return pb.UpdatePositionResponse()

    async def EndSession(
        self, request: pb.EndSessionRequest, context: aio.ServicerContext[Any, Any]
    ) -> pb.EndSessionResponse:
        """Return the completion rate once it is durable."""
        checker = Checker()
        end = SessionEnd(
            session_id=_known_id(request.session_id, checker),
            position_ms=_milliseconds(request.position_ms, checker, "position_ms"),
            watch_time_ms=_milliseconds(request.watch_time, checker, "watch_time"),
            at=self._instant(request, checker),
        )
        checker.finish()
        return pb.EndSessionResponse(completion_rate=await self._write(end.end, request.session_id))

    def _instant(self, request: Stamped, checker: Checker) -> datetime:
        now = to_milliseconds(self._now())
        instant = decode_instant(request, now, checker, "timestamp")
        check_timestamp(instant, checker, "timestamp", now)
        return instant

    async def _write(self, work: Work[T], session_id: str) -> T:
        try:
            return await self._writer.write(work, timeout_s=self._budget_s)
        except UnknownSessionError:
            raise not_found("session", session_id) from None
        except NotDurableError:
            raise unavailable(UNAVAILABLE, AWAY, retry_after_s=RETRY_AFTER_S) from None


def _known_id(text: str, checker: Checker) -> UUID:
    checker.require(bool(text), "session_id", "must not be empty")
    return decode_uuid(text, checker, "session_id")


def _milliseconds(value: int, checker: Checker, path: str) -> int:
    checker.require(0 <= value <= MAX_MS, path, f"is {value}, must not be negative" if value < 0 else "is too large")
    return value
