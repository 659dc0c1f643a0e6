"""The delay before a rival attempt."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.recsvc_client.hedging import Hedge, HedgePolicy

POLICY = HedgePolicy(sample=40, every=10, least_s=0.002, most_s=0.06, initial_s=0.05)


@given(st.lists(st.floats(0, 0.2), max_size=200))
def test_delay_is_the_recent_quantile(latencies: list[float]) -> None:
    hedge = Hedge(POLICY)
    for latency in latencies:
        hedge.observe(latency)
    counted = latencies[: len(latencies) // 10 * 10]
    if not counted:
        assert hedge.delay_s == POLICY.initial_s
        return
    recent = sorted(counted[-40:])
    assert POLICY.least_s <= hedge.delay_s <= POLICY.most_s
    expected = recent[min(len(recent) - 1, int(len(recent) * 0.95))]
    assert hedge.delay_s == min(max(expected, POLICY.least_s), POLICY.most_s)
