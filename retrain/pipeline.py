"""A training run, stage by stage: each takes what the one before returned."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from recsvc.artefact import Manifest, Model
from recsvc.registry import Registry
from retrain.champion import load_champion
from retrain.evaluation import (
    DEFAULT_POPULARITY_WEIGHT,
    POPULARITY_FLOOR,
    Evaluation,
    HeldOutDay,
    choose_weight,
    evaluate,
)
from retrain.exports import Window, midnight
from retrain.failure import Reason, RunFailure
from retrain.gate import data_problems
from retrain.preparation import Interactions, prepare
from retrain.progress import Progress
from retrain.publish import (
    Publication,
    activate,
    find_published,
    live_version,
    name_prefix,
    publish,
    unfenced,
    write_verified,
)
from retrain.quality_gate import judge
from retrain.recipe import recipe_digest
from retrain.record import Record
from retrain.representations import Representations
from retrain.settings import RetrainSettings
from retrain.showcase import showcase
from retrain.smoke import Smoke
from retrain.source import Source
from retrain.trainer import Trainer
from retrain.warehouse import Warehouse

logger = structlog.get_logger("retrain")

DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What a run works with."""

    settings: RetrainSettings
    window: Window
    source: Source
    registry: Registry
    folder: Path
    """For scratch files."""
    progress: Progress
    now: Callable[[], datetime]
    smoke: Callable[..., Smoke] | None = None
    """Serves a written model for a test, as `smoke.smoke` does; None serves none."""
    fence: Callable[[], None] = unfenced
    """Raises RunFailure when nothing may be published any more."""
    force: bool = False
    """Publish whatever the gate finds."""
    record: Record = field(default_factory=Record)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What training gives."""

    representations: Representations
    popularity_weight: float
    evaluation: Evaluation | None
    """None where there is no day to hold out, or nothing to judge on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What came of a run."""

    publication: Publication
    interactions: Interactions | None
    """None where the same work had been published before."""
    evaluation: Evaluation | None


def run(job: Run, *, again: bool = False) -> Result:
    """Train, evaluate and publish; RunFailure leaves what is live alone.

    Args:
        job: What to work with.
        again: Train even when the same recipe was published before.
    """
    record = job.record
    record.parent = live_version(job.registry)
    record.input_digest = recipe_digest(job.source, job.settings.recipe())
    prefix = name_prefix(job.window.until, record.input_digest)
    published = None if again else find_published(job.registry, prefix)
    if published:
        record.version = published
        publication = activate(job.registry, published, now=job.now(), fence=job.fence)
        return Result(publication=publication, interactions=None, evaluation=None)
    with Warehouse(job.folder, memory=job.settings.retrain_memory, threads=job.settings.retrain_threads) as warehouse:
        with record.stage("prepare"):
            interactions = prepare(job.source, job.window, warehouse)
        record.counts = interactions.counts
        logger.info("interactions.prepared", events=interactions.counts.events, broken=interactions.counts.broken)
        with record.stage("gate"):
            _check_data(job, interactions)
        trained = train(job, interactions)
        model = assemble(job, interactions, trained)
    folder = job.folder / "model"
    with record.stage("write"):
        manifest = write_verified(model, prefix, folder)
    record.version = manifest.version
    with record.stage("smoke"):
        _smoke(job, folder)
    with record.stage("publish"):
        publication = publish(
            job.registry, folder, manifest, now=job.now(), key=job.settings.signing_key(), fence=job.fence
        )
    return Result(publication=publication, interactions=interactions, evaluation=trained.evaluation)


def _smoke(job: Run, folder: Path) -> None:
    if job.smoke is None:
        return
    try:
        job.record.smoke = job.smoke(folder, job.folder / "smoke", now=job.now())
    except RunFailure as failure:
        logger.warning("gate.smoke", problem=str(failure), forced=job.force)
        if not job.force:
            raise
    else:
        logger.info("gate.smoked", **asdict(job.record.smoke))


def _check_data(job: Run, interactions: Interactions) -> None:
    counts = interactions.counts
    broken = sum(counts.broken.values())
    job.record.days = tuple(interactions.days())
    problems = data_problems(job.record.days, read=counts.read, broken=broken, repeated=counts.repeated)
    job.record.data_problems = tuple(problems)
    for problem in problems:
        logger.warning("gate.data", problem=problem, forced=job.force)
    if problems and not job.force:
        raise RunFailure(Reason.GATE, f"{'; '.join(problems)} (--force trains on it all the same)")


def _check_quality(
    job: Run, interactions: Interactions, day: HeldOutDay, evaluation: Evaluation, candidate: Representations
) -> None:
    """Raise RunFailure when the fit on everything before the last day is not fit to take the live model's place."""
    champion = load_champion(job.registry, job.folder / "live", interactions.users(), interactions.videos())
    since = midnight(job.window.last)
    verdict = judge(
        day,
        evaluation,
        candidate,
        champion,
        since=since,
        until=job.window.until,
        threads=job.settings.retrain_threads,
        seed=job.settings.retrain_seed,
    )
    job.record.verdict = verdict
    job.record.showcase = showcase(
        interactions,
        day,
        candidate.scores,
        job.record.popularity_weight,
        champion,
        since=since,
        threads=job.settings.retrain_threads,
        seed=job.settings.retrain_seed,
    )
    for comparison in verdict.comparisons:
        logger.info("gate.compared", rival=comparison.rival, found=str(comparison), viewers=verdict.viewers)
    for problem in verdict.problems:
        logger.warning("gate.quality", problem=problem, forced=job.force)
    if verdict.problems and not job.force:
        raise RunFailure(Reason.QUALITY, f"{'; '.join(verdict.problems)} (--force publishes it all the same)")


def train(job: Run, interactions: Interactions) -> Trained:
    """Fit in time order: before the last two days, with the first of them, with both.

    The first fit chooses the weight of the popularity prior on the day that follows it. The second is evaluated on the
    last day, which nothing was chosen on. The third is what is published.
    """
    settings = job.settings
    last = midnight(job.window.last)
    trainer = Trainer(settings.hyperparameters())
    weight = DEFAULT_POPULARITY_WEIGHT
    evaluation = None
    if _fit(job, trainer, interactions, last - DAY, "base"):
        day = _held_out(job, interactions, last - DAY)
        if len(day.users):
            with job.record.stage("evaluate"):
                weight = choose_weight(
                    _representations(trainer, interactions).scores, day, threads=settings.retrain_threads
                )
            logger.info("popularity_weight.chosen", weight=weight, viewers=len(day.users))
    job.record.popularity_weight = weight
    if _fit(job, trainer, interactions, last, "validated"):
        day = _held_out(job, interactions, last)
        if len(day.users):
            candidate = _representations(trainer, interactions)
            with job.record.stage("evaluate"):
                evaluation = evaluate(candidate.scores, day, weight, threads=settings.retrain_threads)
            job.record.evaluation = evaluation
            with job.record.stage("gate"):
                _check_quality(job, interactions, day, evaluation, candidate)
    if not _fit(job, trainer, interactions, job.window.until, "final"):
        raise RunFailure(Reason.DATA, "the exports hold no positive interaction: there is nothing to learn from")
    representations = _representations(trainer, interactions)
    problem = representations.problem()
    if problem:
        raise RunFailure(Reason.TRAINING, problem)
    return Trained(representations=representations, popularity_weight=weight, evaluation=evaluation)


def assemble(job: Run, interactions: Interactions, trained: Trained) -> Model:
    """Return the model of everything that was known at the window's end."""
    until, counts = job.window.until, interactions.counts
    manifest = Manifest(
        version="unnamed",
        algorithm=f"lightfm-{job.settings.retrain_loss}",
        trained_at=job.now(),
        data_until=until,
        interaction_count=counts.events + counts.past_events,
        user_count=counts.users,
        video_count=counts.videos,
        dimensions=trained.representations.video_factors.shape[1],
        popularity_weight=trained.popularity_weight,
        popularity_floor=POPULARITY_FLOOR,
        popularity_half_life_s=job.settings.popularity_half_life().total_seconds(),
        metrics=trained.evaluation.metrics() if trained.evaluation else {},
        parent=job.record.parent,
    )
    return Model(
        manifest=manifest,
        users=interactions.users(),
        videos=interactions.videos(),
        user_factors=trained.representations.user_factors,
        user_biases=trained.representations.user_biases,
        video_factors=trained.representations.video_factors,
        video_biases=trained.representations.video_biases,
        popularity=interactions.popularity(until, half_life=job.settings.popularity_half_life()),
        seen=interactions.seen(until),
        catalogue=interactions.catalogue(),
    )


def _fit(job: Run, trainer: Trainer, interactions: Interactions, until: datetime, title: str) -> bool:
    """Learn from what was liked by an instant; return whether there was anything."""
    positives = interactions.positives(until, half_life=job.settings.half_life())
    if not len(positives):
        return False
    epochs = job.settings.retrain_day_epochs if trainer.is_fitted else job.settings.retrain_epochs
    begin = job.now()
    with job.record.stage("fit"):
        trainer.fit(positives, job.progress.epochs(title, epochs))
    logger.info("fit.done", fit=title, positives=len(positives), seconds=round((job.now() - begin).total_seconds(), 1))
    return True


def _representations(trainer: Trainer, interactions: Interactions) -> Representations:
    return trainer.representations((interactions.counts.users, interactions.counts.videos))


def _held_out(job: Run, interactions: Interactions, since: datetime) -> HeldOutDay:
    return HeldOutDay.build(
        interactions.targets(since, since + DAY),
        interactions.seen(since),
        interactions.popularity(since, half_life=job.settings.popularity_half_life()),
        most_users=job.settings.retrain_evaluation_users,
        seed=job.settings.retrain_seed,
    )


def utc_now() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC)
