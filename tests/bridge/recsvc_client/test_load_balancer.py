"""The choice of a replica."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from bridge.recsvc_client.load_balancer import REST_S, Balancer, Replica
from tests.bridge.support.clock import FakeClock


class BalancerMachine(RuleBasedStateMachine):
    """Calls overlap, end well or not, and replicas come and go."""

    calls: Bundle[Replica[str]] = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.peers = ["a", "b", "c"]
        self.balancer = Balancer(self.peers, self.clock)
        self.under_way: list[Replica[str]] = []

    @rule(target=calls, tried=st.integers(0, 2))
    def begin(self, tried: int) -> Replica[str]:
        avoided = self.balancer._replicas[:tried]
        before = {replica.peer: replica.under_way for replica in self.balancer._replicas}
        chosen = self.balancer.begin(avoided)
        others = [replica for replica in self.balancer._replicas if replica not in avoided]
        if others:
            assert chosen in others
            awake = [replica for replica in others if replica.rests_until <= self.clock.now]
            assert not awake or chosen in awake
            assert before[chosen.peer] == min(before[replica.peer] for replica in awake or others)
        self.under_way.append(chosen)
        return chosen

    @rule(call=consumes(calls), failed=st.booleans())
    def end(self, call: Replica[str], failed: bool) -> None:  # noqa: FBT001  # a generated argument
        self.balancer.end(call, failed=failed)
        self.under_way.remove(call)
        assert not failed or call.rests_until == self.clock.now + REST_S

    @rule(count=st.integers(1, 3))
    def replace(self, count: int) -> None:
        self.balancer.replace(self.peers[:count])

    @rule(seconds=st.sampled_from([0.1, 1.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def counts_are_true(self) -> None:
        for replica in self.balancer._replicas:
            assert replica.under_way == self.under_way.count(replica)


BalancerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40)
TestBalancer = pytest.mark.timeout(60)(BalancerMachine.TestCase)


def test_idle_replicas_take_turns() -> None:
    balancer = Balancer(["a", "b", "c"], FakeClock())
    chosen = []
    for _ in range(6):
        replica = balancer.begin()
        chosen.append(replica.peer)
        balancer.end(replica, failed=False)
    assert chosen == ["a", "b", "c"] * 2


def test_hung_replica_keeps_few_calls() -> None:
    """The calls that it holds keep others away: of a thousand it gets one."""
    balancer = Balancer(["hung", "well"], FakeClock())
    hung = 0
    for _ in range(1000):
        replica = balancer.begin()
        if replica.peer == "well":
            balancer.end(replica, failed=False)
        else:
            hung += 1
    assert hung == 1
