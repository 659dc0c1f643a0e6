"""Records a stream of interactions: a bounded window of them is under way, and replies keep the requests' order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

import structlog
from grpc import StatusCode

from bridge.domain.event_identity import EventIdReusedError
from bridge.ingest.acknowledgement import NotDurableError, Outcome
from bridge.ingest.protobuf import decode_interaction, status_of
from bridge.ingest.recorder import Recorder
from servicekit.grpc.errors import INTERNAL, ServiceError, Violation, invalid_argument
from videowindow.feed.v1 import interaction_pb2 as pb

Request: TypeAlias = pb.StreamInteractionsRequest | ServiceError
"""An event as it came, or what is wrong with one that cannot be decoded."""
WINDOW: Final = 250
"""Events of a stream that are under way; beyond, nothing is read, and HTTP/2 makes the client wait.

Enough to fill commits, and few enough that each is durable within its budget also on a machine that is short of time.
"""
UNAVAILABLE: Final = "INGESTION_UNAVAILABLE"
RETRY_AFTER_S: Final = 1.0

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Event:
    """An event under way: its future outcome, or its error."""

    event_id: str
    outcome: Outcome | ServiceError


class InteractionStream:
    """One call's events.

    Args:
        recorder: Makes them durable.
        now: The time of day (UTC).
        count: Told what became of each.
        budget_s: Seconds that an event may take.
    """

    def __init__(
        self, recorder: Recorder, now: Callable[[], datetime], count: Callable[[str], None], *, budget_s: float
    ) -> None:
        self._recorder = recorder
        self._now = now
        self._count = count
        self._budget_s = budget_s
        self._window: asyncio.Queue[_Event | None] = asyncio.Queue(WINDOW)

    async def replies(self, requests: AsyncIterator[Request]) -> AsyncIterator[pb.StreamInteractionsResponse]:
        """Yield the outcome of each event in request order."""
        reader = asyncio.create_task(self._read(requests))
        index = 0
        try:
            while (event := await self._window.get()) is not None:
                yield await self._reply(index, event)
                index += 1
            await reader
        finally:
            reader.cancel()
            with suppress(asyncio.CancelledError):
                await reader
            self._abandon()

    async def _read(self, requests: AsyncIterator[Request]) -> None:
        try:
            async for request in requests:
                await self._window.put(self._accept(request))
        except Exception:
            await self._window.put(None)
            raise
        await self._window.put(None)

    def _accept(self, request: Request) -> _Event:
        if isinstance(request, ServiceError):
            return _Event("", request)
        try:
            if not request.HasField("interaction"):
                raise invalid_argument(Violation("interaction", "is required"))
            interaction = decode_interaction(request.interaction, self._now())
        except ServiceError as error:
            return _Event(request.interaction.event_id, error)
        outcome = self._recorder.submit(interaction, timeout_s=self._budget_s)
        return _Event(str(interaction.event_id), outcome)

    async def _reply(self, index: int, event: _Event) -> pb.StreamInteractionsResponse:
        if isinstance(event.outcome, ServiceError):
            return self._refusal(index, event, event.outcome, "invalid")
        try:
            acknowledgement = await event.outcome
        except NotDurableError as error:
            shown = ServiceError(StatusCode.UNAVAILABLE, UNAVAILABLE, str(error), retry_after_s=RETRY_AFTER_S)
            return self._refusal(index, event, shown, "unavailable")
        except EventIdReusedError as error:
            return self._refusal(index, event, reused(error), "reused")
        except Exception:
            logger.exception("stream.defect")
            return self._refusal(index, event, INTERNAL, "failed")
        self._count("duplicate" if acknowledgement.duplicate else "accepted")
        return pb.StreamInteractionsResponse(index=index, event_id=event.event_id, status=status_of(acknowledgement))

    def _refusal(self, index: int, event: _Event, error: ServiceError, count: str) -> pb.StreamInteractionsResponse:
        self._count(count)
        return pb.StreamInteractionsResponse(index=index, event_id=event.event_id, error=_error(error))

    def _abandon(self) -> None:
        """Cancel the entries whose caller has gone and whose turn has not come."""
        while not self._window.empty():
            event = self._window.get_nowait()
            if event is not None and isinstance(event.outcome, asyncio.Future) and not event.outcome.cancel():
                event.outcome.exception()


def reused(error: EventIdReusedError) -> ServiceError:
    """Return the error for an identifier that its user has used for another event."""
    return ServiceError(StatusCode.ALREADY_EXISTS, "EVENT_ID_REUSED", str(error))


def _error(error: ServiceError) -> pb.EventError:
    return pb.EventError(
        code=error.code.value[0],
        reason=error.reason,
        message=error.message,
        field=error.violations[0].field if error.violations else "",
        retry_after_ms=round((error.retry_after_s or 0) * 1000),
    )
