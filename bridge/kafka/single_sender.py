"""Sends messages one by one, to find out which of them Kafka will never take, such as too large ones.

Brokers refuse a whole batch for one message in it, so which one it is shows only when each goes alone.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException

from bridge.kafka.message import Message
from bridge.kafka.producer import CONFINED, REFUSED, Producer

ALONE: Final[Mapping[str, Any]] = {"batch.num.messages": 1, "linger.ms": 0}
FLUSH_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """The outcome of a message: Kafka has it, or will never take it for the reason `refusal`, or may take it later."""

    durable: bool
    refusal: str = ""


class SingleMessageSender:
    """Sends messages as batches of one, in order, by a producer of its own.

    Args:
        config: Properties of librdkafka.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = {**config, **ALONE}
        self._error: KafkaError | None = None

    async def send(self, messages: Sequence[Message]) -> list[Delivery]:
        """Return the outcome of each message; after one that may be taken later, all others may be, too."""
        producer = await Producer.make(self._config, self._note, confined=(*CONFINED, *REFUSED))
        try:
            return await asyncio.gather(*[self._send(producer, message) for message in messages])
        finally:
            await producer.close(flush_s=FLUSH_S)

    def _send(self, producer: Producer, message: Message) -> "asyncio.Future[Delivery]":
        outcome: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()

        def ended(durable: bool) -> None:  # noqa: FBT001  # a callback
            if not outcome.done():
                outcome.set_result(Delivery(durable, "" if durable else _refusal(self._error)))

        try:
            producer.produce(message, ended)
        except KafkaException as error:
            outcome.set_result(Delivery(False, _refusal(error.args[0])))  # noqa: FBT003  # it is named
        except BufferError:
            outcome.set_result(Delivery(False))  # noqa: FBT003  # it is named
        return outcome

    def _note(self, error: KafkaError | None) -> None:
        """Keep the reason why the message failed whose `done` is called next."""
        self._error = error


def _refusal(error: KafkaError | None) -> str:
    return error.str() if error is not None and error.code() in REFUSED else ""
