"""What the gate refuses before training, and what it lets pass."""

from dataclasses import replace

import pytest

from retrain.gate import DayFacts, data_problems

USUAL = [DayFacts(day=day, events=10_000, top_video_share=0.02, new_viewer_share=0.1) for day in range(6)]
LAST = replace(USUAL[-1], day=6)


def problems(last: DayFacts, *, earlier: int = 6, broken: int = 0, repeated: int = 0) -> list[str]:
    return data_problems([*USUAL[:earlier], last], read=70_000, broken=broken, repeated=repeated)


def test_day_like_the_others_passes() -> None:
    assert problems(replace(LAST, events=7000, top_video_share=0.1, new_viewer_share=0.3)) == []


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (replace(LAST, events=5000), "5,000 interactions, 50% of the median"),
        (replace(LAST, top_video_share=1.0), "100% of the last day's interactions are with one video"),
        (replace(LAST, new_viewer_share=0.95), "95% of the last day's interactions are by viewers not known before"),
    ],
)
def test_poisoned_day_is_refused_with_one_reason(last: DayFacts, words: str) -> None:
    (reason,) = problems(last)
    assert words in reason


def test_broken_and_repeated_rows_are_refused() -> None:
    reasons = problems(LAST, broken=20_000, repeated=40_000)
    assert [reason.split(" of")[0] for reason in reasons] == ["29%", "57%"]


def test_too_few_days_are_not_compared() -> None:
    assert problems(replace(LAST, events=1), earlier=2) == []
