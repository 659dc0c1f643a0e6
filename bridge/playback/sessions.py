"""Records playback sessions, with the position in the video, in Postgres and in Kafka."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4, uuid5

from bridge.kafka.message import Message, iso_milliseconds
from bridge.kafka.topics import POSITION_UPDATED_TOPIC, SESSION_CREATED_TOPIC, SESSION_ENDED_TOPIC
from bridge.postgres.pool import Connection

_CREATE: Final = """
INSERT INTO playback_sessions (session_id, user_id, video_id, duration_ms, feed_session_id, started_at, positioned_at)
VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_FIND: Final = """
SELECT user_id, video_id, duration_ms, positioned_at, completion_rate FROM playback_sessions
WHERE session_id = %s FOR UPDATE
"""
_MOVE: Final = "UPDATE playback_sessions SET position_ms = %s, positioned_at = %s WHERE session_id = %s"
_END: Final = """
UPDATE playback_sessions SET position_ms = %s, watch_time_ms = %s, ended_at = %s, completion_rate = %s
WHERE session_id = %s
"""


class UnknownSessionError(Exception):
    """No session has this identifier."""


class OtherSessionError(Exception):
    """The identifier belongs to a session of another user or video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """The begin of a session; `feed_session_id` may be empty."""

    session_id: UUID
    user_id: str
    video_id: str
    duration_ms: int
    started_at: datetime
    feed_session_id: str = ""

    async def create(self, connection: Connection) -> tuple[None, Sequence[Message]]:
        """Insert the session, unless it exists; OtherSessionError when the identifier is taken."""
        cursor = await connection.execute(
            _CREATE,
            [
                self.session_id,
                self.user_id,
                self.video_id,
                self.duration_ms,
                self.feed_session_id or None,
                self.started_at,
                self.started_at,
            ],
        )
        if cursor.rowcount == 0:
            user_id, video_id, *_ = await _find(connection, self.session_id)
            if (user_id, video_id) != (self.user_id, self.video_id):
                raise OtherSessionError
            return None, []
        value = {"durationMs": self.duration_ms}
        message = _message(
            SESSION_CREATED_TOPIC,
            session_id=self.session_id,
            user_id=self.user_id,
            video_id=self.video_id,
            more=value,
            at=self.started_at,
            once=True,
        )
        if self.feed_session_id:
            message.headers["feed-session-id"] = self.feed_session_id
        return None, [message]


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """A position in a session's video."""

    session_id: UUID
    position_ms: int
    at: datetime

    async def update(self, connection: Connection) -> tuple[None, Sequence[Message]]:
        """Record the position, unless a later one is known or the session is over; UnknownSessionError without one."""
        user_id, video_id, _, latest, rate = await _find(connection, self.session_id)
        if rate is not None or self.at < latest:
            return None, []
        await connection.execute(_MOVE, [self.position_ms, self.at, self.session_id])
        value = {"positionMs": self.position_ms}
        return None, [
            _message(
                POSITION_UPDATED_TOPIC,
                session_id=self.session_id,
                user_id=user_id,
                video_id=video_id,
                more=value,
                at=self.at,
            )
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class SessionEnd:
    """The end of a session."""

    session_id: UUID
    position_ms: int
    watch_time_ms: int
    at: datetime

    async def end(self, connection: Connection) -> tuple[float, Sequence[Message]]:
        """Record the end, the first time; return the completion rate. UnknownSessionError without such a session."""
        user_id, video_id, duration_ms, _, known = await _find(connection, self.session_id)
        if known is not None:
            return known, []
        rate = completion_rate(self.watch_time_ms, duration_ms)
        await connection.execute(_END, [self.position_ms, self.watch_time_ms, self.at, rate, self.session_id])
        value = {
            "durationMs": duration_ms,
            "positionMs": self.position_ms,
            "watchTime": self.watch_time_ms,
            "completionRate": rate,
        }
        message = _message(
            SESSION_ENDED_TOPIC,
            session_id=self.session_id,
            user_id=user_id,
            video_id=video_id,
            more=value,
            at=self.at,
            once=True,
        )
        return rate, [message]


def completion_rate(watch_time_ms: int, duration_ms: int) -> float:
    """Return the watched share of a video, clamped to 0..1."""
    return min(1.0, max(0.0, watch_time_ms / duration_ms))


async def _find(connection: Connection, session_id: UUID) -> tuple[Any, ...]:
    row = await (await connection.execute(_FIND, [session_id])).fetchone()
    if row is None:
        raise UnknownSessionError
    return row


def _message(
    topic: str,
    *,
    session_id: UUID,
    user_id: str,
    video_id: str,
    more: Mapping[str, object],
    at: datetime,
    once: bool = False,
) -> Message:
    """Return a session's message; `once` gives it an identifier that a second making repeats."""
    event_id = uuid5(session_id, topic) if once else uuid4()
    value = {"sessionId": str(session_id), "userId": user_id, "videoId": video_id, **more}
    value["timestamp"] = iso_milliseconds(at)
    return Message(
        event_id=event_id,
        topic=topic,
        key=user_id,
        kind=topic.partition(".")[2],
        value=json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        headers={"event-id": str(event_id)},
    )
