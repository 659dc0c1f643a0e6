"""Records of the catalogue's topic: each is the whole state of its key, or a hide that Kafka alone has acknowledged.

Postgres composes the states; hides that it does not have yet are composed here.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from bridge.kafka.message import UNRECORDED, Message, iso_milliseconds
from bridge.kafka.topics import CATALOGUE_TOPIC
from bridge.visibility.changes import Change, FromKafka, Kind, Limits, Stored
from servicekit.inputs.identifiers import identifier_problem
from servicekit.inputs.json_fields import JsonObject

SCHEMA: Final = 1
MAX_STORED_HIDES: Final = 64
MAX_REASON_BYTES: Final = 512
MAX_COUNTRIES: Final = 300
PLAIN_ENDS: Final = b'"expiresAt" : null, "allowedCountries" : [], "deniedCountries" : [], "hidden" : null}'
"""How the state of a video ends that may be shown always and everywhere, as Postgres writes it: most end so."""
FIELDS: Final = frozenset(
    (
        "schema", "videoId", "authorId", "revision", "known", "tags", "language", "durationMs", "publishedAt",
        "ageRating", "attributes", "embedding", "storedHides", "expiresAt", "allowedCountries", "deniedCountries",
        "hidden",
    )
)  # fmt: skip


class NewerSchemaError(ValueError):
    """A record of a program that is newer than this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaHide:
    """A hide as Kafka has it until it is in Postgres.

    Attributes:
        kind: What is hidden.
        id: Its id.
        hide_id: The hide.
        reason: Why.
        actor: Who asked for it.
        since: When (UTC).
    """

    kind: Kind
    id: str
    hide_id: UUID
    reason: str
    actor: str
    since: datetime

    def change(self) -> FromKafka:
        """Return the hide as the hidden set takes it."""
        return FromKafka(kind=self.kind, id=self.id, hide_id=str(self.hide_id))

    def message(self) -> Message:
        """Return the record that tells of it."""
        hidden = {
            "reason": self.reason,
            "actor": self.actor,
            "since": iso_milliseconds(self.since),
            "revision": None,
            "hideId": str(self.hide_id),
        }
        value = {"schema": SCHEMA, f"{self.kind}Id": self.id, "revision": None, "hidden": hidden}
        return Message(
            event_id=self.hide_id,
            topic=CATALOGUE_TOPIC,
            key=f"{self.kind}:{self.id}",
            kind=self.kind,
            value=json.dumps(value, ensure_ascii=False, separators=(",", ":")),
            headers={"event-id": str(self.hide_id), UNRECORDED: "1"},
        )


@dataclass(frozen=True, slots=True)
class Read:
    """The changes in a record, and the number of its unknown fields."""

    changes: Sequence[Change]
    unknown_fields: int


def read_record(key: str, value: bytes) -> Read:
    """Return what a record says; ValueError for what is none, NewerSchemaError for one of a newer program."""
    kind, name = read_key(key)
    fields = JsonObject(value)
    _check_schema(fields)
    own = f"{kind}Id"
    if own in fields and fields.text(own) != name:
        raise ValueError(f"{own} is not that of the key")
    unknown = len([one for one in fields.names() if one not in FIELDS])
    hidden = _optional(fields, "hidden", dict)
    if _optional(fields, "revision", int) is None:
        if hidden is None:
            raise ValueError("revision is missing")
        return Read([FromKafka(kind=kind, id=name, hide_id=str(_hide_id(hidden)))], unknown)
    taken_in = tuple(_texts(fields, "storedHides", MAX_STORED_HIDES))
    revision = fields.whole("revision")
    state = Stored(kind=kind, id=name, revision=revision, hidden=hidden is not None, taken_in=taken_in)
    if kind is Kind.AUTHOR:
        return Read([state], unknown)
    limits = Limits(
        video_id=name,
        revision=revision,
        expires_at_s=_seconds(fields, "expiresAt"),
        allowed=frozenset(_texts(fields, "allowedCountries", MAX_COUNTRIES)),
        denied=frozenset(_texts(fields, "deniedCountries", MAX_COUNTRIES)),
    )
    return Read([state, limits], unknown)


def read_kafka_hide(value: bytes) -> KafkaHide:
    """Return the hide of a record that Postgres does not have yet; ValueError for any other record."""
    fields = JsonObject(value)
    _check_schema(fields)
    kind = Kind.VIDEO if "videoId" in fields else Kind.AUTHOR
    hidden = _optional(fields, "hidden", dict)
    if hidden is None:
        raise ValueError("hidden is missing")
    about = JsonObject(json.dumps(hidden))
    reason, actor = about.text("reason"), about.identifier("actor")
    if len(reason.encode()) > MAX_REASON_BYTES or "\0" in reason:
        raise ValueError(f"reason is longer than {MAX_REASON_BYTES} bytes, or no text")
    return KafkaHide(
        kind=kind,
        id=fields.identifier(f"{kind}Id"),
        hide_id=_hide_id(hidden),
        reason=reason,
        actor=actor,
        since=_instant(about.text("since")),
    )


def read_key(key: str) -> tuple[Kind, str]:
    """Return what a key stands for; ValueError for one that is none of the topic's."""
    kind, colon, name = key.partition(":")
    if not colon or kind not in (Kind.VIDEO, Kind.AUTHOR):
        raise ValueError("the key is neither video:<id> nor author:<id>")
    if problem := identifier_problem(name):
        raise ValueError(f"the id in the key {problem}")
    return Kind(kind), name


def _check_schema(fields: JsonObject) -> None:
    if fields.whole("schema", least=1) > SCHEMA:
        raise NewerSchemaError(f"schema is {fields.whole('schema')}, this program reads {SCHEMA}")


def _optional(fields: JsonObject, name: str, kind: type) -> Any:
    value = fields.value(name) if name in fields else None
    if value is not None and type(value) is not kind:
        raise ValueError(f"{name} is of another type")
    return value


def _hide_id(hidden: dict[str, Any]) -> UUID:
    text = hidden.get("hideId")
    if not isinstance(text, str):
        raise ValueError("hidden.hideId is missing")  # noqa: TRY004  # as all that is wrong with a record
    return UUID(text)


def _texts(fields: JsonObject, name: str, most: int) -> Iterator[str]:
    items = fields.items(name) if name in fields else []
    if len(items) > most or not all(isinstance(one, str) for one in items):
        raise ValueError(f"{name} is no list of at most {most} texts")
    return iter(items)


def _seconds(fields: JsonObject, name: str) -> float:
    text = _optional(fields, name, str)
    return math.inf if text is None else _instant(text).timestamp()


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{text!r} is beyond the calendar") from None
