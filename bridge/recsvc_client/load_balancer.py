"""Balances calls over replicas: to the one with the fewest calls under way, not to one that has just failed.

A replica that hangs keeps its calls and so gets no more than a few; one that fails at once would look idle, and rests.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from bridge.domain.deadline import Clock

P = TypeVar("P")

REST_S: Final = 1.0
"""Seconds that a replica is left alone after a failure, where there is another one."""


@dataclass(eq=False, slots=True)
class Replica(Generic[P]):
    """A replica, with its calls and its rest.

    Attributes:
        peer: What calls it.
        under_way: Calls that have not ended.
        rests_until: Instant until which it is the last choice.
        used: Turn of its latest call.
    """

    peer: P
    under_way: int = 0
    rests_until: float = 0.0
    used: int = 0


class Balancer(Generic[P]):
    """Chooses replicas for one event loop.

    Args:
        peers: One for each replica.
        clock: Monotonic seconds.
    """

    def __init__(self, peers: Iterable[P], clock: Clock) -> None:
        self._clock = clock
        self._replicas = [Replica(peer) for peer in peers]
        self._turn = 0

    def __len__(self) -> int:
        return len(self._replicas)

    def replace(self, peers: Iterable[P]) -> None:
        """Use these channels from now on; replicas that stay keep their calls and rests."""
        known = {id(replica.peer): replica for replica in self._replicas}
        self._replicas = [known.get(id(peer)) or Replica(peer) for peer in peers]

    def begin(self, tried: Collection[Replica[P]] = ()) -> Replica[P]:
        """Return the replica for a call, one not tried yet if possible; `end` must follow."""
        replica = self._choose(tried) if len(self._replicas) > 1 else self._replicas[0]
        self._turn += 1
        replica.used = self._turn
        replica.under_way += 1
        return replica

    def _choose(self, tried: Collection[Replica[P]]) -> Replica[P]:
        now = self._clock()
        return min(
            self._replicas,
            key=lambda one: (one in tried, now < one.rests_until, one.under_way, one.used),
        )

    def end(self, replica: Replica[P], *, failed: bool) -> None:
        """Record that a call has ended."""
        replica.under_way -= 1
        if failed:
            replica.rests_until = self._clock() + REST_S
