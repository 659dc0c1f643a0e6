"""An event identifier counts for its user only, and stands for one thing that the user did."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status

from bridge.domain.event_identity import derived_id
from bridge.kafka.message import INTERACTIONS_TOPIC
from bridge.kafka.topics import FEEDBACK_TOPIC
from tests.bridge.support.events import event, published, record, recorded
from tests.bridge.support.ingestion import Ingestion, running_ingestion
from videowindow.feed.v1 import interaction_pb2 as pb

ACCEPTED, DUPLICATE = pb.ACKNOWLEDGEMENT_STATUS_ACCEPTED, pb.ACKNOWLEDGEMENT_STATUS_DUPLICATE


@pytest.fixture(scope="module")
async def running(postgres_url: str, kafka_bootstrap: str) -> AsyncIterator[Ingestion]:
    async with running_ingestion(postgres_url, kafka_bootstrap) as ingestion:
        yield ingestion


@pytest.fixture(scope="module")
async def other(postgres_url: str, kafka_bootstrap: str) -> AsyncIterator[Ingestion]:
    """Another process, which remembers nothing of what the first was told."""
    async with running_ingestion(postgres_url, kafka_bootstrap) as ingestion:
        yield ingestion


def users(count: int) -> list[str]:
    return [f"u{number}-{uuid4()}" for number in range(count)]


def check_reused(error: aio.AioRpcError) -> None:
    assert error.code() is StatusCode.ALREADY_EXISTS
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # an AioRpcError has what it needs
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    assert info.reason == "EVENT_ID_REUSED"


async def test_an_id_of_another_user_keeps_nobody_out(
    running: Ingestion, other: Ingestion, kafka_bootstrap: str
) -> None:
    """Whoever comes second, third, and whichever process they come to; repeats are known as such everywhere."""
    event_id, three = str(uuid4()), users(3)
    events = [event(user, event_id=event_id) for user in three]
    for one, place in zip(events, (running, other, running), strict=True):
        reply = await record(place, one)
        assert (reply.event_id, reply.status) == (event_id, ACCEPTED)
    for one in events:
        for place in (running, other):
            assert (await record(place, one)).status == DUPLICATE
    assert len(set(await recorded(running, 3, *three))) == 3
    messages = await published(running, kafka_bootstrap, INTERACTIONS_TOPIC, *three)
    assert sorted((one.key, one.headers["event-id"]) for one in messages) == [(user, event_id) for user in three]


async def test_one_batch_may_hold_an_id_twice(running: Ingestion) -> None:
    """By two users, and by one of them for two things."""
    event_id, (one, two) = str(uuid4()), users(2)
    sent = [
        event(one, event_id=event_id),
        event(two, event_id=event_id),
        event(one, event_id=event_id),
        event(one, event_id=event_id, video_id="else"),
    ]

    async def requests() -> AsyncIterator[pb.StreamInteractionsRequest]:
        for interaction in sent:
            yield pb.StreamInteractionsRequest(interaction=interaction)

    replies = [reply async for reply in running.stub.StreamInteractions(requests(), timeout=10)]
    assert [reply.status for reply in replies[:3]] == [ACCEPTED, ACCEPTED, DUPLICATE]
    assert (replies[3].error.code, replies[3].error.reason) == (StatusCode.ALREADY_EXISTS.value[0], "EVENT_ID_REUSED")
    assert len(await recorded(running, 2, one, two)) == 2


async def test_an_id_for_something_else_is_refused(running: Ingestion, other: Ingestion) -> None:
    (user,) = users(1)
    sent = event(user)
    await record(running, sent)
    changed = pb.Interaction()
    changed.CopyFrom(sent)
    changed.watch_time += 1
    for place in (running, other):
        with pytest.raises(aio.AioRpcError) as caught:
            await record(place, changed)
        check_reused(caught.value)
    later = pb.Interaction()
    later.CopyFrom(sent)
    later.timestamp.FromDatetime(datetime.now(UTC))
    later.metadata["attempt"] = "2"
    for place in (running, other):
        assert (await record(place, later)).status == DUPLICATE


async def test_ids_that_an_older_program_recorded_have_owners(running: Ingestion, other: Ingestion) -> None:
    """It writes no owner beside the identifier, but the row says whose it is."""
    one, two = users(2)
    sent = event(one)
    await record(other, sent)
    await running.rows(
        "UPDATE interaction_ids SET owner = NULL, content = NULL WHERE event_id = %s RETURNING 1", sent.event_id
    )
    assert (await record(running, sent)).status == DUPLICATE
    assert (await record(running, event(two, event_id=sent.event_id))).status == ACCEPTED
    assert len(await recorded(running, 2, one, two)) == 2


async def test_an_older_program_can_still_record(running: Ingestion) -> None:
    """Statements of the release before, on the schema of this one."""
    event_id = uuid4()
    insert = "INSERT INTO interaction_ids (event_id) VALUES (%s) ON CONFLICT DO NOTHING RETURNING event_id"
    assert await running.rows(insert, event_id) == [(event_id,)]
    assert await running.rows(insert, event_id) == []


async def test_the_id_of_an_erased_event_stays_known(running: Ingestion, other: Ingestion) -> None:
    (user,) = users(1)
    sent = event(user)
    await record(other, sent)
    await running.rows("DELETE FROM user_interactions WHERE user_id = %s RETURNING 1", user)
    assert (await record(running, sent)).status == DUPLICATE


async def test_a_derived_id_that_is_taken_is_derived_once_more(running: Ingestion) -> None:
    """As by somebody who wants to keep a certain user's event out."""
    event_id, (victim, rogue, other_rogue) = uuid4(), users(3)
    await record(running, event(rogue, event_id=str(event_id)))
    await record(running, event(other_rogue, event_id=str(derived_id(event_id, victim))))
    for expected in (ACCEPTED, DUPLICATE):
        assert (await record(running, event(victim, event_id=str(event_id)))).status == expected
    assert len(await recorded(running, 1, victim)) == 1


async def test_what_is_derived_is_not_known_for_longer_than_its_source(running: Ingestion) -> None:
    """Else a repeat would be recorded under the identifier that has become free."""
    event_id, (one, two) = str(uuid4()), users(2)
    await record(running, event(one, event_id=event_id))
    await running.rows(
        "UPDATE interaction_ids SET recorded_at = now() - interval '13 days' WHERE event_id = %s RETURNING 1", event_id
    )
    await record(running, event(two, event_id=event_id))
    (fresh,) = await running.rows(
        "SELECT recorded_at > now() - interval '1 day' FROM interaction_ids WHERE event_id = %s", event_id
    )
    assert fresh == (True,)


async def test_feedback_has_owners_too(running: Ingestion, kafka_bootstrap: str) -> None:
    event_id, (one, two) = str(uuid4()), users(2)

    async def say(user: str, comment: str) -> pb.RecordFeedbackResponse:
        reply: pb.RecordFeedbackResponse = await running.stub.RecordFeedback(
            pb.RecordFeedbackRequest(
                event_id=event_id, user_id=user, video_id="v", sentiment=pb.SENTIMENT_POSITIVE, comment=comment
            ),
            timeout=10,
        )
        return reply

    assert [(await say(user, "good")).status for user in (one, two, one, two)] == [
        ACCEPTED,
        ACCEPTED,
        DUPLICATE,
        DUPLICATE,
    ]
    with pytest.raises(aio.AioRpcError) as caught:
        await say(two, "bad")
    check_reused(caught.value)
    assert await running.rows("SELECT count(*) FROM recommendation_feedback WHERE user_id = ANY(%s)", [one, two]) == [
        (2,)
    ]
    messages = await published(running, kafka_bootstrap, FEEDBACK_TOPIC, one, two)
    assert {one.headers["event-id"] for one in messages} == {str(UUID(event_id))}
    assert len(messages) == 2
