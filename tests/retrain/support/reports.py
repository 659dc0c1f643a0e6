"""A run's report with everything in it, and texts that try to break out of the page."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from retrain.report.data import (
    DayVolume,
    Decision,
    Epoch,
    Night,
    PopularityBand,
    Ranking,
    RunReport,
    SampledUser,
    SegmentQuality,
    Showcase,
    Stage,
    VideoOnPage,
)

HOSTILE = (
    "<script>document.title='broken'</script>",
    '"><img src=x onerror="document.title=\'broken\'">',
    "</style><svg onload=document.title='broken'>",
    "{{ 7 * 7 }}",
)
FIRST = date(2026, 11, 1)


def ranking(name: str, ndcg: float) -> Ranking:
    return Ranking(
        name=name, ndcg=ndcg, recall=2.2 * ndcg, ndcg_low=ndcg - 0.004, ndcg_high=ndcg + 0.004,
        coverage=1057, popularity_share=0.21,
    )  # fmt: skip


def shown(number: int) -> VideoOnPage:
    hostile = HOSTILE[number % 4]
    return VideoOnPage(
        video=hostile if number < 4 else f"v{number}" + "x" * 100,
        author=f"a-{hostile}",
        tags=(hostile, "comedy"),
        alone=number % 3 == 0,
        liked=number == 1,
    )


def report(**fields: Any) -> RunReport:
    days = [FIRST + timedelta(days=number) for number in range(18)]
    page = tuple(shown(number) for number in range(8))
    everything: dict[str, Any] = {
        "name": "20261119T000000Z-595db728-f232133d",
        "accepted": True,
        "outcome": "live",
        "reasons": (),
        "parent": "20261118T000000Z-11111111-22222222",
        "started_at": datetime(2026, 11, 19, 2, 0, tzinfo=UTC),
        "seconds": 412.3,
        "first_day": days[0],
        "last_day": days[-1],
        "counts": {"rows read": 96_898, "interactions": 93_890, "users": 26_768, "videos": 7583},
        "broken": {"timestamp": 3},
        "settings": {"loss": "warp", "factors": "64"},
        "days": tuple(DayVolume(day=day, events=90_000 + 997 * day.day) for day in days),
        "decisions": (Decision(check="Data", passed=True, detail="The last day looks like the days before it."),),
        "users": 4163,
        "popularity_weight": 0.375,
        "rankings": (ranking("lightfm_prior", 0.0912), ranking("live", 0.0891), ranking("popularity", 0.0432)),
        "parts": tuple(
            SegmentQuality(name=name, users=4163, ndcg=ndcg, ndcg_low=ndcg - 0.01, ndcg_high=ndcg + 0.012)
            for name, ndcg in (("all", 0.0912), ("users.new", 0.031), ("videos.known", 0.121), (HOSTILE[0], 0.05))
        ),
        "epochs": tuple(Epoch(fit="validated", epoch=epoch, ndcg=0.09 * (1 - 0.8**epoch)) for epoch in range(2, 21, 2)),
        "nights": tuple(
            Night(
                version=str(day),
                last_day=day,
                rankings=(ranking("lightfm_prior", 0.085 + day.day / 9000), ranking("popularity", 0.043)),
            )
            for day in days
        ),
        "showcase": Showcase(
            bands=tuple(
                PopularityBand(name=name, videos=videos, shares={"lightfm_prior": share, "popularity": 1 - share})
                for name, videos, share in (("the top 1 %", 76, 0.2), ("the rest", 7507, 0.8))
            ),
            samples=tuple(
                SampledUser(user=user, known=12, history=page, old_page=page, new_page=page)
                for user in ("u1", HOSTILE[1])
            ),
        ),
        "stages": (Stage(name="prepare", seconds=12.3), Stage(name="fit", seconds=350)),
    }
    return RunReport(**(everything | fields))


def rejected() -> RunReport:
    problem = "100% of the last day's interactions are with one video; the median is 3%"
    return report(
        accepted=False,
        outcome="rejected",
        reasons=(problem,),
        decisions=(Decision(check="Data", passed=False, detail=problem),),
        users=None, popularity_weight=None, rankings=(), parts=(), epochs=(), nights=(), showcase=None,
    )  # fmt: skip
