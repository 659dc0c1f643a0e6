"""Writes a report of a run: beside the model in the store, and as a file for people."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from modelstore.artefact import ArtefactError
from modelstore.registry import Registry, checked
from retrain.data.prepare import Counts
from retrain.errors import RunError
from retrain.gates.quality_gate import Verdict
from retrain.pipeline.context import RunContext
from retrain.pipeline.observer import RunFindings
from retrain.pipeline.results import Result
from retrain.publishing.publish import REJECTED
from retrain.report.data import (
    LIVE,
    DayVolume,
    Decision,
    Night,
    Ranking,
    RunReport,
    Stage,
    from_json,
    parts_of,
    rankings_of,
    to_json,
)
from retrain.report.html import MAX_NIGHTS, render
from retrain.settings import RetrainSettings
from servicekit.files.replacement import write_whole
from servicekit.storage.object_store import ObjectNotFoundError, ObjectStore

logger = structlog.get_logger("retrain")

PAGE: Final = "report.html"
DATA: Final = "report.json"
RIVALS: Final = {
    LIVE: "the live model",
    "live.half": "the live model, half a day later",
    "popularity.half": "popularity, half a day later",
}


def leave_report(
    context: RunContext, findings: RunFindings, store: ObjectStore, came_of: Result | RunError, *, started_at: datetime
) -> None:
    """Write the report of a run that got as far as its data.

    Args:
        context: The run.
        findings: What was noted of it.
        store: Of the models.
        came_of: Its end.
        started_at: Its beginning.
    """
    if findings.counts is None:
        return
    report = report_of(context, findings, findings.counts, came_of, started_at=started_at)
    folder = report.name if report.accepted else f"{REJECTED}/{report.name}"
    _upload(report, store, folder)
    path = context.settings.retrain_report_path
    if path:
        write_page(report, path)
    logger.info("report.written", page=f"{store.url}/{folder}/{PAGE}", copy=str(path) if path else None)


def read_report(store: ObjectStore, version: str) -> RunReport:
    """Return the kept report of a version or a rejected run; ObjectNotFoundError or ValueError if there is none."""
    name = checked(version)
    try:
        data = store.read(f"{name}/{DATA}").data
    except ObjectNotFoundError:
        data = store.read(f"{REJECTED}/{name}/{DATA}").data
    return from_json(data)


def write_page(report: RunReport, path: Path) -> None:
    """Write the page of a report to a file, which is replaced as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, render(report))


def report_of(
    context: RunContext, findings: RunFindings, counts: Counts, came_of: Result | RunError, *, started_at: datetime
) -> RunReport:
    """Return the report of a run at its end."""
    failure = came_of if isinstance(came_of, RunError) else None
    rankings = (*_rankings(findings), *_live(findings))
    last = context.window.last
    name = findings.version or f"{context.window.until:%Y%m%dT%H%M%SZ}-{findings.input_digest}"
    night = [Night(version=name, last_day=last, rankings=rankings)] if rankings else []
    return RunReport(
        name=name,
        accepted=failure is None,
        outcome=_outcome(came_of),
        reasons=(str(failure),) if failure else (),
        parent=findings.parent,
        started_at=started_at,
        seconds=(context.now() - started_at).total_seconds(),
        first_day=context.window.days[0].day,
        last_day=last,
        counts=_counted(counts),
        broken=counts.broken,
        settings=_set(context.settings),
        days=tuple(
            DayVolume(day=date(1970, 1, 1) + timedelta(days=one.day), events=one.events) for one in findings.days
        ),
        decisions=tuple(_decisions(findings)),
        users=findings.evaluation.users if findings.evaluation else None,
        popularity_weight=findings.evaluation.weight if findings.evaluation else None,
        rankings=rankings,
        parts=parts_of(findings.evaluation.metrics()) if findings.evaluation else (),
        epochs=findings.epochs,
        nights=(*_earlier_nights(context.registry, before=last), *night),
        showcase=findings.showcase,
        stages=tuple(Stage(name=stage, seconds=seconds) for stage, seconds in findings.stage_seconds.items()),
    )


def _counted(counts: Counts) -> dict[str, int]:
    return {
        "rows read": counts.read,
        "repeated": counts.repeated,
        "broken": sum(counts.broken.values()),
        "interactions": counts.events,
        "videos of histories": counts.past_events,
        "users": counts.users,
        "videos": counts.videos,
    }


def _set(settings: RetrainSettings) -> dict[str, str]:
    return {
        "loss": settings.retrain_loss,
        "factors": str(settings.retrain_factors),
        "epochs": f"{settings.epochs(warm=False)}, {settings.epochs(warm=True)} in a warm start",
        "learning rate": f"{settings.retrain_learning_rate:g}",
        "interactions halve in": f"{settings.retrain_half_life_days:g} days",
        "popularity halves in": f"{settings.retrain_popularity_half_life_days:g} days",
        "threads": str(settings.retrain_threads),
    }


def _outcome(came_of: Result | RunError) -> str:
    if isinstance(came_of, RunError):
        return "rejected" if came_of.is_rejection else "failed"
    return came_of.publication.outcome.value


def _rankings(findings: RunFindings) -> tuple[Ranking, ...]:
    evaluation = findings.evaluation
    if not evaluation:
        return ()
    return rankings_of(evaluation.metrics())


def _live(findings: RunFindings) -> Iterator[Ranking]:
    """Yield the gate's findings on the model that was live before."""
    for one in findings.verdict.comparisons if findings.verdict else ():
        if one.rival == LIVE:
            yield Ranking(name=LIVE, ndcg=one.ndcg)


def _decisions(findings: RunFindings) -> Iterator[Decision]:
    if findings.data_problems is not None:
        yield from _checked("Data", findings.data_problems, "The last day looks like the days before it.")
    verdict = findings.verdict
    if verdict:
        yield from _compared(verdict)


def _compared(verdict: Verdict) -> Iterator[Decision]:
    """Yield the result of each comparison and other check."""
    told = [str(one) for one in verdict.comparisons]
    for one, text in zip(verdict.comparisons, told, strict=True):
        passed = not any(text in problem for problem in verdict.problems)
        yield Decision(check=f"Against {RIVALS.get(one.rival, one.rival)}", passed=passed, detail=text)
    others = tuple(problem for problem in verdict.problems if not any(text in problem for text in told))
    otherwise = "Nothing unusual." if told else f"Too few users to compare: {verdict.users}."
    yield from _checked("Pages and factors", others, otherwise)


def _checked(check: str, problems: tuple[str, ...], otherwise: str) -> Iterator[Decision]:
    for problem in problems:
        yield Decision(check=check, passed=False, detail=problem)
    if not problems:
        yield Decision(check=check, passed=True, detail=otherwise)


def _earlier_nights(registry: Registry, *, before: date) -> list[Night]:
    """Return the nights of published versions, oldest first; of several versions of a day, the one trained last."""
    nights: dict[date, Night] = {}
    for version in registry.versions():
        if len(nights) >= MAX_NIGHTS:
            break
        try:
            manifest = registry.manifest(version)
        except (ArtefactError, ObjectNotFoundError):
            continue
        day = (manifest.data_until - timedelta(microseconds=1)).astimezone(UTC).date()
        rankings = rankings_of(manifest.metrics)
        if day < before and rankings:
            nights.setdefault(day, Night(version=version, last_day=day, rankings=rankings))
    return [nights[day] for day in sorted(nights)]


def _upload(report: RunReport, store: ObjectStore, folder: str) -> None:
    with tempfile.TemporaryDirectory(prefix="report-") as scratch:
        for name, data in ((PAGE, render(report).encode()), (DATA, to_json(report))):
            path = Path(scratch) / name
            path.write_bytes(data)
            store.upload(path, f"{folder}/{name}")
