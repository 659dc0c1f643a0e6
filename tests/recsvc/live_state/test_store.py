"""The store beside a plain model of it, whatever happens to both in whatever order."""

import shutil
import tempfile
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from recsvc.live_state.compaction import compact
from recsvc.live_state.keys import HOUR_MS
from recsvc.live_state.limits import drop_marks, keep_within
from recsvc.live_state.store import CHANGES, LiveStore
from servicekit.user_fingerprint import user_fingerprint
from tests.recsvc.support.live_stores import forget, found_wrong, learn, moments, new_store, row

USERS = st.sampled_from(["a", "b", "ab", "a-user-with-a-long-name"])
TIMES = st.integers(0, 5 * HOUR_MS)
HOURS = st.integers(0, 5)


class Model(RuleBasedStateMachine):
    """One process writes by one object and reads by another one."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.store = new_store(Path(self._folder.name))
        self.reader = LiveStore(Path(self._folder.name), is_synced=False)
        self.done: dict[str, set[int]] = defaultdict(set)
        self.marks: dict[str, int] = {}
        self.sums: Counter[tuple[int, str]] = Counter()
        self.offset = 0

    def teardown(self) -> None:
        assert found_wrong(self.store) == []
        assert not self.store.damage.is_reported
        self._folder.cleanup()

    @rule(user=USERS, at=st.lists(TIMES, min_size=1, max_size=4))
    def learns(self, user: str, at: list[int]) -> None:
        learn(self.store, user, *at)
        since_ms = self.marks.get(user, -1)
        new = {at_ms for at_ms in at if at_ms > since_ms} - self.done[user]
        self.done[user] |= new
        if new:
            self.done[user] = {at_ms for at_ms in self.done[user] if at_ms > since_ms}

    @rule(user=USERS, at=TIMES, by_name=st.booleans())
    def forgets(self, user: str, at: int, *, by_name: bool) -> None:
        forget(self.store, user, at, by_name=by_name)
        self.marks[user] = max(at, self.marks.get(user, at))

    @rule(user=USERS, at=TIMES)
    def trims(self, user: str, at: int) -> None:
        with self.store.writing() as batch:
            batch.trim(user, at)
        self.done[user] = {at_ms for at_ms in self.done[user] if at_ms > at}

    @rule(user=USERS)
    def drops(self, user: str) -> None:
        with self.store.writing() as batch:
            batch.drop(user)
        self.done[user] = set()

    @rule(hour=HOURS, video=st.sampled_from("xyz"), more=st.integers(1, 3))
    def counts(self, hour: int, video: str, more: int) -> None:
        with self.store.writing() as batch:
            batch.count({(hour, video): more})
            batch.advance("topic", 3, self.offset + 1, self.offset)
        self.sums[hour, video] += more
        self.offset += 1

    @rule(user=USERS)
    def fails(self, user: str) -> None:
        with suppress(ZeroDivisionError), self.store.writing() as batch:
            batch.learn(user, [row(5 * HOUR_MS + 1)], told_ms=1)
            batch.count({(0, "x"): 9})
            batch.forget(user_fingerprint(user), 5 * HOUR_MS)
            raise ZeroDivisionError

    @rule(user=USERS, at=TIMES)
    def compacts(self, user: str, at: int) -> None:
        """Something happens in the middle of it."""
        later = [lambda: self.learns(user, [at]), lambda: self.forgets(user, at, by_name=False)]
        compact(self.store, pause=lambda: later.pop()() if later else None)

    @rule(hour=HOURS)
    def is_kept_within(self, hour: int) -> None:
        keep_within(self.store, since_ms=hour * HOUR_MS)
        # A newer interaction keeps all of a user, also one whom a mark hides.
        for user in self.done:
            if self.store.known(user).profile is None and max(self.done[user], default=0) // HOUR_MS < hour:
                self.done[user] = set()
        self.sums = Counter({key: value for key, value in self.sums.items() if key[0] >= hour})

    @rule(hour=HOURS)
    def marks_are_dropped(self, hour: int) -> None:
        before = {mark: (at_ms, is_applied) for mark, at_ms, is_applied in self.store.marks()}
        dropped = drop_marks(self.store, before_ms=hour * HOUR_MS)
        after = {mark for mark, _, _ in self.store.marks()}
        assert dropped == len(before) - len(after)
        for user in list(self.marks):
            if user_fingerprint(user) not in after:
                assert self.marks[user] < hour * HOUR_MS
                assert before[user_fingerprint(user)][1]
                self.done[user] = {at_ms for at_ms in self.done[user] if at_ms > self.marks[user]}
                del self.marks[user]

    @invariant()
    def both_know_the_same(self) -> None:
        self.reader.environment()
        for user in ["a", "b", "ab", "a-user-with-a-long-name"]:
            since_ms = self.marks.get(user)
            left = sorted(at_ms for at_ms in self.done[user] if since_ms is None or at_ms > since_ms)
            for store in (self.store, self.reader):
                assert store.known(user).forgotten_at_ms == since_ms
                if not (user in self.marks and not moments(store, user)):
                    assert moments(store, user) == left
        for hour in range(6):
            expected = {video: value for (at, video), value in self.sums.items() if at == hour}
            videos, sums = self.reader.counts(hour)
            assert dict(zip((one.decode() for one in videos), sums, strict=True)) == expected
            assert (hour in self.reader.hours()) == bool(expected)
        assert self.reader.progress() == ({("topic", 3): (self.offset, self.offset - 1)} if self.offset else {})


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_a_count_that_was_removed_hides_no_exchange(tmp_path: Path) -> None:
    """Else who had it mapped would read and write for ever in an environment that is gone."""
    former = new_store(tmp_path)
    former.environment()
    (tmp_path / CHANGES).unlink()
    follower = LiveStore(tmp_path, is_synced=False, max_bytes=64 << 20)
    learn(follower, "a", 1)
    compact(follower)

    learn(former, "a", 2)
    assert moments(follower, "a") == [1, 2]

    (tmp_path / CHANGES).unlink()
    compact(LiveStore(tmp_path, is_synced=False, max_bytes=64 << 20))
    assert former.environment() is not None
    assert moments(former, "a") == [1, 2]
    assert former.current() == former.names()[0]
    learn(former, "a", 3)
    assert follower.environment() is not None
    assert moments(follower, "a") == [1, 2, 3]


def test_a_folder_that_was_removed_and_made_anew_is_not_the_former_one(tmp_path: Path) -> None:
    former = new_store(tmp_path / "live")
    learn(former, "a", 1)
    shutil.rmtree(tmp_path / "live")
    new_store(tmp_path / "live")

    assert former.environment() is not None
    assert moments(former, "a") == []
    learn(former, "a", 2)
    other = LiveStore(tmp_path / "live", is_synced=False, max_bytes=64 << 20)
    other.environment()
    assert moments(other, "a") == [2]
