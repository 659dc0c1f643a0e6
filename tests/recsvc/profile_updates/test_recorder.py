"""Where changes of profiles are kept, and what of them is known at once, whatever refuses."""

import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import grpc
import lmdb
import pytest

from recsvc.domain.interaction import Interaction, InteractionType
from recsvc.live_state.pending import Pending
from recsvc.live_state.store import LiveStore
from recsvc.profile_updates.message import TOPIC, Message, erasure_message, update_message
from recsvc.profile_updates.producer import UpdateProducer
from recsvc.profile_updates.recorder import Durability, ProfileRecorder
from servicekit.grpc.errors import ServiceError
from tests.recsvc.support.stores import prepared
from tests.recsvc.support.topics import messages_of

pytestmark = pytest.mark.peer

LONG_S: Final = 3600.0
LIKE: Final = Interaction("v1", InteractionType.LIKE, 1)
TOLD_MS: Final = 5


class Kafka(UpdateProducer):
    """A producer to a real broker, with more patience than a busy machine needs; or to none."""

    is_up = True

    def send(self, message: Message, *, within_s: float) -> bool:
        return self.is_up and any(super(Kafka, self).send(message, within_s=within_s) for _ in self._tries())

    def _tries(self) -> Iterator[int]:
        for number in range(60):
            self._away_until = 0.0
            yield number


@pytest.fixture
def kafka(kafka_bootstrap: str) -> Iterator[Kafka]:
    one = Kafka({"bootstrap.servers": kafka_bootstrap})
    yield one
    one.stop()


@pytest.fixture
def user() -> str:
    return f"user-{uuid4()}"


def update(recorder: ProfileRecorder, user: str) -> Durability:
    return recorder.update(user, [LIKE], told_ms=TOLD_MS, within_s=LONG_S)


def forget(recorder: ProfileRecorder, user: str) -> Durability:
    return recorder.forget(user, at_ms=TOLD_MS, within_s=LONG_S)


Change = Callable[[ProfileRecorder, str], Durability]
CHANGES: Final = pytest.mark.parametrize("change", [update, forget])


def message_of(change: Change, user: str) -> Message:
    return update_message(user, [LIKE], told_ms=TOLD_MS) if change is update else erasure_message(user, at_ms=TOLD_MS)


def is_known(store: LiveStore, change: Change, user: str) -> bool:
    """Return whether the next page follows from the change."""
    profile, forgotten_at_ms = store.known(user)
    return tuple(profile or ()) == (LIKE,) if change is update else forgotten_at_ms == TOLD_MS


def waiting(store: LiveStore) -> list[tuple[str, Message]]:
    return [(one.topic, Message(one.key, one.value, [*one.headers])) for one in Pending(store.folder).oldest(9)]


def refused(change: Callable[[], object]) -> None:
    with pytest.raises(ServiceError) as caught:
        change()
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "PROFILES_UNAVAILABLE")
    assert caught.value.retry_after_s


@CHANGES
def test_with_kafka_it_is_in_the_topic_and_known_here(
    tmp_path: Path, kafka: Kafka, kafka_bootstrap: str, user: str, change: Change
) -> None:
    store = prepared(tmp_path)

    assert change(ProfileRecorder(store, kafka=kafka), user) is Durability.KAFKA

    assert message_of(change, user) in messages_of(kafka_bootstrap, user)
    assert is_known(store, change, user)
    assert not waiting(store)


@CHANGES
def test_while_kafka_is_away_it_waits_on_disk_and_is_known_here(
    tmp_path: Path, kafka: Kafka, user: str, change: Change
) -> None:
    store = prepared(tmp_path)
    kafka.is_up = False

    assert change(ProfileRecorder(store, kafka=kafka), user) is Durability.MACHINE

    assert waiting(store) == [(TOPIC, message_of(change, user))]
    assert is_known(store, change, user)


@CHANGES
def test_without_kafka_the_store_keeps_it(tmp_path: Path, change: Change) -> None:
    store = prepared(tmp_path, is_synced=True)
    shared: list[int] = []

    assert change(ProfileRecorder(store, share=lambda _, at_ms: shared.append(at_ms)), "u") is Durability.MACHINE

    assert is_known(store, change, "u")
    assert shared == ([TOLD_MS] if change is forget else [])


@CHANGES
def test_what_kafka_has_needs_no_store(
    tmp_path: Path, kafka: Kafka, kafka_bootstrap: str, user: str, change: Change
) -> None:
    """As while the follower makes it anew: it reads the change from Kafka later."""
    store = LiveStore(tmp_path, is_synced=False)

    assert change(ProfileRecorder(store, kafka=kafka), user) is Durability.KAFKA
    assert message_of(change, user) in messages_of(kafka_bootstrap, user)

    kafka.is_up = False
    assert change(ProfileRecorder(store, kafka=kafka), user) is Durability.MACHINE
    assert waiting(store) == [(TOPIC, message_of(change, user))]
    refused(lambda: change(ProfileRecorder(store), user))


@CHANGES
def test_a_writer_that_was_stopped_holds_nobody_up_for_long(
    tmp_path: Path, kafka: Kafka, user: str, change: Change
) -> None:
    store = prepared(tmp_path)

    with prepared(tmp_path).turn():
        refused(lambda: change(ProfileRecorder(store), user))
        assert change(ProfileRecorder(store, kafka=kafka), user) is Durability.KAFKA
        kafka.is_up = False
        assert change(ProfileRecorder(store, kafka=kafka), user) is Durability.MACHINE

    assert not is_known(store, change, user)
    assert waiting(store) == [(TOPIC, message_of(change, user))]


@CHANGES
def test_a_full_disk_is_told_and_nothing_is_half_done(
    tmp_path: Path, kafka: Kafka, user: str, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the store nor what waits for Kafka takes anything; Kafka alone still does."""
    store = prepared(tmp_path)
    error: Any = lmdb.DiskError("No space left on device")
    error.code = errno.ENOSPC  # as the client says it

    def full(*_: object, **__: object) -> None:
        raise error

    environment = store.environment()
    assert environment is not None
    monkeypatch.setattr(environment, "begin", full)
    monkeypatch.setattr(Pending, "add", full)

    refused(lambda: change(ProfileRecorder(store), user))
    assert change(ProfileRecorder(store, kafka=kafka), user) is Durability.KAFKA
    kafka.is_up = False
    refused(lambda: change(ProfileRecorder(store, kafka=kafka), user))

    monkeypatch.undo()
    assert not is_known(store, change, user)
    assert not waiting(store)


def test_other_servers_that_cannot_be_told_are_told_of(tmp_path: Path) -> None:
    """Without Kafka; this server has forgotten by then."""
    store = prepared(tmp_path)

    def fail(_: bytes, __: int) -> None:
        raise ServiceError(grpc.StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE", "no", retry_after_s=1)

    with pytest.raises(ServiceError, match="no"):
        forget(ProfileRecorder(store, share=fail), "u")
    assert is_known(store, forget, "u")
