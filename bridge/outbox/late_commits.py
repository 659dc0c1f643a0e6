"""Reconciles a commit that finished late with the messages already sent to Kafka for it."""

from collections.abc import Iterable

from bridge.kafka.message import Message, identity_of_message
from bridge.outbox.outbox import Outbox


class LateCommit:
    """Matches the outcomes of messages with the rows of the late commit.

    A row whose message Kafka has by then, or gets, is deleted; any other is left to the relay.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._durable: dict[bytes, bool] = {}
        self._committed: dict[bytes, Message] = {}

    def on_outcome(self, identity: bytes, *, durable: bool) -> None:
        """Record the outcome of the message of a user's event."""
        self._durable[identity] = durable
        if identity in self._committed:
            self._settle(self._committed[identity], durable=durable)

    def on_commit(self, messages: Iterable[Message]) -> None:
        """Record the rows of the late commit, which the relay has left alone."""
        for message in messages:
            identity = identity_of_message(message)
            self._committed[identity] = message
            durable = self._durable.get(identity)
            if durable is not None:
                self._settle(message, durable=durable)

    def _settle(self, message: Message, *, durable: bool) -> None:
        if durable:
            self._outbox.mark_acknowledged([message.event_id])
        else:
            self._outbox.leave_to_relay(message)
