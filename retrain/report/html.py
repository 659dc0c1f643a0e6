"""Renders a run's report as one self-contained page of HTML: style and charts stand inside it."""

from collections.abc import Sequence
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from retrain.report.charts import Chart, Point, bar_chart, line_chart
from retrain.report.data import BASELINE, LIVE, SERVED, Night, Ranking, RunReport

TITLES: Final = {
    SERVED: "LightFM with popularity prior",
    "lightfm": "LightFM alone",
    LIVE: "Live model before",
    "earlier": "Up to two days before the end",
    "validated": "Up to a day before the end",
    BASELINE: "Decayed popularity",
}
"""Of the rankings that are known by name."""
PARTS: Final = {
    "all": "All users",
    "users.new": "Users who were shown nothing before",
    "users.light": "Users who were shown a few videos",
    "users.regular": "Users who were shown many",
    "videos.unseen": "Videos that nobody was shown before",
    "videos.rare": "Videos that few were shown",
    "videos.known": "Videos that many were shown",
}
"""Of the parts that are known by name."""
MAX_NIGHTS: Final = 30


def render(report: RunReport) -> str:
    """Return the page. Every text of the report is escaped."""
    return _ENVIRONMENT.get_template("report.html.j2").render(
        report=report,
        served=report.ranking(SERVED) or (report.rankings[0] if report.rankings else None),
        baseline=report.ranking(BASELINE),
        nights=_nights(report.nights[-MAX_NIGHTS:]),
        epochs=_epochs(report),
        days=_days(report),
        highest=max((one.ndcg_high for one in report.parts), default=1.0) or 1.0,
    )


def title(name: str) -> str:
    """Return the title of a ranking."""
    return TITLES.get(name) or name.replace("_", " ").replace(".", ", ").capitalize()


def _nights(nights: Sequence[Night]) -> Chart | None:
    """Return the chart of quality over nights: the served ranking beside popularity, which tells hard nights."""
    if len(nights) < 2:
        return None
    lines = []
    for name in (SERVED, BASELINE):
        points = [
            _night_point(place, night, ranking)
            for place, night in enumerate(nights)
            for ranking in night.rankings
            if ranking.name == name
        ]
        if points:
            lines.append((name, points))
    return line_chart(lines, [f"{night.last_day:%-d %b}" for night in nights], decimals=3) if lines else None


def _night_point(place: int, night: Night, ranking: Ranking) -> Point:
    return Point(
        place=place,
        value=ranking.ndcg,
        low=ranking.ndcg_low,
        high=ranking.ndcg_high,
        label=f"{night.last_day}, {title(ranking.name)}: {ranking.ndcg:.4f} ({night.version})",
    )


def _epochs(report: RunReport) -> Chart | None:
    if not report.epochs:
        return None
    places = {(one.fit, one.epoch): place for place, one in enumerate(report.epochs)}
    fits = dict.fromkeys(one.fit for one in report.epochs)
    lines = [
        (
            fit,
            [
                Point(place=places[fit, one.epoch], value=one.ndcg, label=f"{fit}, epoch {one.epoch}: {one.ndcg:.4f}")
                for one in report.epochs
                if one.fit == fit
            ],
        )
        for fit in fits
    ]
    return line_chart(lines, [str(one.epoch) for one in report.epochs], decimals=3)


def _days(report: RunReport) -> Chart | None:
    if not report.days:
        return None
    values = [(float(one.events), f"{one.day}: {one.events:,} interactions") for one in report.days]
    return bar_chart("interactions", values, [f"{one.day:%-d %b}" for one in report.days])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("retrain.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"title_of": title, "part_of": lambda name: PARTS.get(name, name), "duration": _duration}
