"""Between messages of the catalogue and values."""

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from bridge.catalogue.storing import Given
from bridge.catalogue.takedowns import Hid
from bridge.catalogue.video import Attribute, Video
from bridge.catalogue.videos_table import Change, Entry, Hide, Upserted
from bridge.feed.protobuf import check_timestamp
from servicekit.grpc.errors import ServiceError
from servicekit.grpc.request_checks import Checker
from videowindow.feed.v1 import catalogue_pb2 as pb

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CHANGES: Final = {one: pb.VideoChange.Value(f"VIDEO_CHANGE_{one.name}") for one in Change}


def decode_video(message: pb.CatalogueVideo, path: str) -> Given:
    """Return the video, with what is wrong in the message itself."""
    checker = Checker()
    video = Video(
        video_id=message.video_id,
        author_id=message.author_id,
        tags=tuple(message.tags),
        language=message.language,
        duration_ms=message.duration_ms if message.HasField("duration_ms") else None,
        published_at=_instant(message.published_at, checker, f"{path}.published_at")
        if message.HasField("published_at")
        else None,
        expires_at=_instant(message.expires_at, checker, f"{path}.expires_at")
        if message.HasField("expires_at")
        else None,
        allowed_countries=tuple(message.allowed_countries),
        denied_countries=tuple(message.denied_countries),
        age_rating=message.age_rating if message.HasField("age_rating") else None,
        attributes={
            name: _attribute(value, checker, f"{path}.attributes[{name}]") for name, value in message.attributes.items()
        }
        if message.attributes
        else {},
        embedding=tuple(message.embedding),
    )
    return Given(path, video, tuple(checker.violations))


def encode_entry(entry: Entry) -> pb.StoredVideo:
    """Return a video with all that is stored of it."""
    message = pb.StoredVideo(revision=entry.revision)
    _encode_video(entry.video, message.video)
    for hide, part in ((entry.hidden, "hidden"), (entry.author_hidden, "author_hidden")):
        if hide is not None:
            _encode_hide(hide, getattr(message, part))
    return message


def encode_upsert(index: int, video_id: str, outcome: Upserted | ServiceError) -> pb.UpsertResult:
    """Return the outcome for a video."""
    if isinstance(outcome, ServiceError):
        return pb.UpsertResult(index=index, video_id=_shown(video_id), error=encode_error(outcome))
    stored = pb.VideoStored(revision=outcome.revision, change=_CHANGES[outcome.change])
    return pb.UpsertResult(index=index, video_id=video_id, stored=stored)


def encode_hide(index: int, name: str, outcome: Hid | ServiceError) -> pb.HideResult:
    """Return the outcome of a hide."""
    if isinstance(outcome, ServiceError):
        return pb.HideResult(index=index, id=_shown(name), error=encode_error(outcome))
    durable_on = pb.DURABLE_ON_POSTGRES if outcome.in_postgres else pb.DURABLE_ON_KAFKA
    taken = pb.HideTaken(revision=outcome.revision, created=outcome.created, durable_on=durable_on)
    return pb.HideResult(index=index, id=name, hidden=taken)


def encode_error(error: ServiceError) -> pb.CatalogueError:
    """Return an error as a part of a reply."""
    return pb.CatalogueError(
        code=error.code.value[0],
        reason=error.reason,
        message=error.message[:MAX_MESSAGE],
        field=error.violations[0].field[:MAX_MESSAGE] if error.violations else "",
        retry_after_ms=round((error.retry_after_s or 0) * 1000),
    )


MAX_MESSAGE: Final = 512
"""Characters of an error's message: a thousand of them must fit into one reply."""
MAX_SHOWN: Final = 128


def _shown(name: str) -> str:
    return name[:MAX_SHOWN]


def _instant(value: Timestamp, checker: Checker, path: str) -> datetime | None:
    if not check_timestamp(value, checker, path):
        return None
    return EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def _attribute(message: pb.AttributeValue, checker: Checker, path: str) -> Attribute:
    match message.WhichOneof("kind"):
        case "text":
            return message.text
        case "number":
            return message.number
        case "flag":
            return message.flag
        case "texts":
            return tuple(message.texts.values)
        case _:
            checker.report(path, "has no value")
            return ""


def _encode_video(video: Video, message: pb.CatalogueVideo) -> None:
    message.video_id, message.author_id, message.language = video.video_id, video.author_id, video.language
    message.tags.extend(video.tags)
    if video.duration_ms is not None:
        message.duration_ms = video.duration_ms
    if video.published_at is not None:
        message.published_at.FromDatetime(video.published_at)
    if video.expires_at is not None:
        message.expires_at.FromDatetime(video.expires_at)
    message.allowed_countries.extend(video.allowed_countries)
    message.denied_countries.extend(video.denied_countries)
    if video.age_rating is not None:
        message.age_rating = video.age_rating
    for name, value in video.attributes.items():
        _encode_attribute(value, message.attributes[name])
    message.embedding.extend(video.embedding)


def _encode_attribute(value: object, message: pb.AttributeValue) -> None:
    """Set a value; the column may hold what this API does not know, which is left out."""
    if isinstance(value, bool):
        message.flag = value
    elif isinstance(value, str):
        message.text = value
    elif isinstance(value, int | float):
        message.number = value
    elif isinstance(value, list | tuple):
        message.texts.values.extend([one for one in value if isinstance(one, str)])


def _encode_hide(hide: Hide, message: pb.Hide) -> None:
    message.reason, message.actor, message.revision = hide.reason, hide.actor, hide.revision
    if hide.since is not None:
        message.since.FromDatetime(hide.since)
