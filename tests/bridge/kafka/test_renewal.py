"""Kafka's credentials are renewed under way: what was acknowledged is there, and reading goes on where it was."""

import asyncio
import json
from collections.abc import Callable
from typing import Final
from uuid import uuid4

from structlog.testing import capture_logs

from bridge.kafka.consumer import KafkaReader
from bridge.kafka.message import INTERACTIONS_TOPIC, UNRECORDED, Message
from bridge.kafka.publisher import KafkaPublisher
from tests.bridge.support.topic import read_topic
from tests.bridge.support.waiting import until

UNUSABLE: Final = {"security.protocol": "ssl", "ssl.ca.location": "/nowhere"}


def message(user: str, number: int) -> Message:
    value = (
        f'{{"userId": "{user}", "videoId": "v{number}", "interactionType": "like", "watchTime": 0,'
        ' "timestamp": "2026-01-01T00:00:00.000Z"}'
    )
    headers = {"event-id": str(uuid4()), UNRECORDED: "1"}
    return Message(event_id=uuid4(), topic=INTERACTIONS_TOPIC, key=user, kind="like", value=value, headers=headers)


async def test_what_was_acknowledged_while_producers_were_exchanged_is_there_in_order(kafka_bootstrap: str) -> None:
    """Three exchanges under load; what failed meanwhile was said to have failed, and is the outbox's."""
    user = f"user-{uuid4()}"
    client = {"bootstrap.servers": kafka_bootstrap}
    publisher = KafkaPublisher(client, sleep=lambda _: asyncio.sleep(0.02))
    outcomes: dict[int, bool] = {}

    def note(number: int) -> Callable[[bool], None]:
        return lambda durable: outcomes.update({number: durable})

    keeping = asyncio.create_task(publisher.keep_alive())
    number = 0
    try:
        with capture_logs() as logs:
            for exchanges in range(1, 4):
                publisher.renew(client | {"client.id": f"bridge-{exchanges}"})
                while sum(log["event"] == "kafka.renewed" for log in logs) < exchanges:
                    publisher.publish(message(user, number), note(number))
                    number += 1
                    await asyncio.sleep(0.001)
        for last in range(number, number + 10):
            publisher.publish(message(user, last), note(last))
        await until(lambda: len(outcomes) == number + 10)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await publisher.close(flush_s=10)
    durable = [number for number, arrived in sorted(outcomes.items()) if arrived]
    assert durable[-10:] == [*range(number, number + 10)]
    found = await asyncio.to_thread(read_topic, kafka_bootstrap, INTERACTIONS_TOPIC, {user})
    assert [record.value["videoId"] for record in found] == [f"v{one}" for one in durable]


async def test_credentials_that_do_not_work_at_all_leave_the_producer(kafka_bootstrap: str) -> None:
    publisher = KafkaPublisher({"bootstrap.servers": kafka_bootstrap}, sleep=lambda _: asyncio.sleep(0.02))
    keeping = asyncio.create_task(publisher.keep_alive())
    outcomes: list[bool] = []
    try:
        with capture_logs() as logs:
            publisher.renew({"bootstrap.servers": kafka_bootstrap, **UNUSABLE})
            await until(lambda: [log for log in logs if log["event"] == "kafka.not_renewed"])
        publisher.publish(message("u", 1), outcomes.append)
        await until(lambda: outcomes)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await publisher.close(flush_s=10)
    assert outcomes == [True]


async def test_the_bridges_reader_goes_on(kafka_bootstrap: str) -> None:
    """What was not committed comes again, and nothing is left out."""
    user = f"user-{uuid4()}"
    client = {"bootstrap.servers": kafka_bootstrap}
    await publish(client, user, range(20))
    reader = KafkaReader(client, [INTERACTIONS_TOPIC], group=f"group-{uuid4()}", header=UNRECORDED)
    read: set[int] = set()
    try:
        await read_until(reader, read, user, 20)
        reader.renew(client | {"client.id": "another"})
        await publish(client, user, range(20, 40))
        await read_until(reader, read, user, 40)
    finally:
        await reader.close()
    assert read == {*range(40)}


async def read_until(reader: KafkaReader, read: set[int], user: str, count: int) -> None:
    async with asyncio.timeout(60):
        while len(read) < count:
            for received in await reader.read():
                if received.key == user and received.value:
                    read.add(int(json.loads(received.value)["videoId"][1:]))
            reader.commit()


async def publish(client: dict[str, str], user: str, numbers: range) -> None:
    publisher, outcomes = KafkaPublisher(client), list[bool]()
    for number in numbers:
        publisher.publish(message(user, number), outcomes.append)
    await until(lambda: len(outcomes) == len(numbers))
    await publisher.close(flush_s=10)
    assert all(outcomes)
