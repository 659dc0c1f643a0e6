"""Stores videos: what can be is stored, and each that cannot be is refused by itself."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from grpc import StatusCode

from bridge.catalogue import videos_table
from bridge.catalogue.video import Video, check_video
from bridge.catalogue.videos_table import Upserted
from bridge.kafka.message import Message
from bridge.postgres.pool import Connection
from servicekit.grpc.errors import ServiceError, Violation, invalid_argument
from servicekit.grpc.request_checks import Checker

T = TypeVar("T")

MAX_VIDEOS: Final = 1000
"""Videos that are stored at once."""


@dataclass(frozen=True, slots=True)
class Given:
    """A video that a caller gave: as it is, or why it was refused.

    Attributes:
        path: Where it stands in what was given, such as `videos[3]`.
        video: The video.
        violations: What is wrong with it beside its own rules.
    """

    path: str
    video: Video
    violations: tuple[Violation, ...] = ()


class Writer(Protocol):
    """Writes to Postgres."""

    async def write(
        self, work: Callable[[Connection], Awaitable[tuple[T, Sequence[Message]]]], *, timeout_s: float
    ) -> T:
        """Return the result of the work once it is durable."""


class VideoStore:
    """Stores videos in Postgres.

    Args:
        writer: Writes.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def store(self, given: Sequence[Given], *, timeout_s: float) -> list[Upserted | ServiceError]:
        """Return one outcome a video; NotDurableError, with nothing stored as far as is known, without Postgres."""
        errors = checked(given)
        outcomes: dict[str, Upserted] = {}
        if len(errors) < len(given):
            outcomes = await self._writer.write(lambda one: self._write(one, given, errors), timeout_s=timeout_s)
        return [errors.get(place) or outcomes[one.video.video_id] for place, one in enumerate(given)]

    async def _write(
        self, connection: Connection, given: Sequence[Given], errors: dict[int, ServiceError]
    ) -> tuple[dict[str, Upserted], Sequence[Message]]:
        errors |= await self._wrong_lengths(connection, given, errors)
        videos = [one.video for place, one in enumerate(given) if place not in errors]
        return (await videos_table.upsert(connection, videos) if videos else {}), ()  # the triggers make the messages

    async def _wrong_lengths(
        self, connection: Connection, given: Sequence[Given], errors: dict[int, ServiceError]
    ) -> dict[int, ServiceError]:
        lengths = {
            place: len(one.video.embedding)
            for place, one in enumerate(given)
            if one.video.embedding and place not in errors
        }
        if not lengths:
            return {}
        right = await videos_table.embedding_length(connection, next(iter(lengths.values())))
        return {
            place: invalid_argument(
                Violation(f"{given[place].path}.embedding", f"has {length} numbers, those of all others have {right}")
            )
            for place, length in lengths.items()
            if length != right
        }


def checked(given: Sequence[Given]) -> dict[int, ServiceError]:
    """Return why videos cannot be stored, by their places; of two with one id the second cannot."""
    errors: dict[int, ServiceError] = {}
    seen: set[str] = set()
    for place, one in enumerate(given):
        checker = Checker([*one.violations])
        check_video(one.video, checker, one.path)
        if checker.violations:
            errors[place] = invalid_argument(*checker.violations)
        elif one.video.video_id in seen:
            errors[place] = repeated(f"{one.path}.video_id", one.video.video_id)
        else:
            seen.add(one.video.video_id)
    return errors


def repeated(path: str, name: str) -> ServiceError:
    """Return the error for an id that stands in a call twice."""
    violation = Violation(path, f"{name!r} stands in the call twice")
    return ServiceError(
        StatusCode.INVALID_ARGUMENT, "DUPLICATE_ID", f"{path}: {violation.description}", violations=[violation]
    )
