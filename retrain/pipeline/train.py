"""Trains representations by fits in time order, and judges them on the last day before learning from it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from retrain.data.exports import midnight
from retrain.data.prepare import Interactions
from retrain.errors import Reason, RunError
from retrain.evaluation.held_out_day import (
    DEFAULT_POPULARITY_WEIGHT,
    MIN_USERS_TO_CHOOSE,
    MIN_USERS_TO_MOVE,
    Evaluation,
    HeldOutDay,
    evaluate,
)
from retrain.evaluation.live_model import LiveModel
from retrain.gates.half_day_gate import MIN_USERS, HalfDayCandidate, final_problems, judge_trial
from retrain.gates.quality_gate import Verdict, judge, length_problems, lift_of, live_pages, page_problems
from retrain.pipeline.best_effort import best_effort
from retrain.pipeline.context import RunContext
from retrain.pipeline.fits import DAY, UNPUBLISHED, Fits
from retrain.pipeline.observer import FitsBegun
from retrain.pipeline.results import Judged, Trained, WorkIdentity
from retrain.report.sample_pages import showcase
from retrain.training.checkpoint import Checkpoint, CheckpointError

logger = structlog.get_logger("retrain")

TRIAL_USERS: Final = 5000
"""Users, at most, that a trial is judged on: pages of three models are made for them."""


def train(context: RunContext, work: WorkIdentity, interactions: Interactions, live_model: LiveModel | None) -> Trained:
    """Fit by the plan, and in the other way if the gate refuses the result.

    Planned is to go on from the last run's checkpoint, or from nothing where there is none or a full fit is due.

    Args:
        context: Settings, input and collaborators of the run.
        work: Names what fits are kept under.
        interactions: What to learn from.
        live_model: The live model; None where there is none.
    """
    start, *others = _starts(context)
    for other in others:
        try:
            return _train(context, work, interactions, live_model, start)
        except RunError as failure:
            if failure.reason is not Reason.QUALITY:
                raise
            logger.warning("fit.refused", warm=start is not None, problem=str(failure))
            start = other and other.after_full_fit(context.window.until)
    return _train(context, work, interactions, live_model, start)


def _starts(context: RunContext) -> list[Checkpoint | None]:
    """Return the starts to try, in order; None means from nothing."""
    if context.checkpoints is None or context.start.checkpoint is None:
        return [None]
    try:
        checkpoint = context.checkpoints.load(context.start.checkpoint.version)
    except CheckpointError as error:
        logger.warning("warm_start.refused", checkpoint=context.start.checkpoint.version, problem=str(error))
        return [None]
    return [checkpoint, None] if context.start.is_wanted else [None, checkpoint]


def _train(
    context: RunContext,
    work: WorkIdentity,
    interactions: Interactions,
    live_model: LiveModel | None,
    start: Checkpoint | None,
) -> Trained:
    """Fit in time order, so that the last day is judged before it is learnt from.

    A checkpoint mostly has learnt up to the last day, so that only that is left. The weight of the popularity prior is
    that of the newest checkpoint, also for a full fit; what is published has the weight that suits the last day better,
    if one does. Beside a live model to compare with, the last day is learnt from in two halves, the first of which is
    on trial.
    """
    last, name = midnight(context.window.last), start.description.version if start else "full"
    kept = context.kept / f"{work.input_digest}-{name}" if context.kept else None
    fits = Fits(
        context.settings, interactions, progress=context.progress, observer=context.observer, start=start, kept=kept
    )
    weight = context.start.checkpoint.popularity_weight if context.start.checkpoint else DEFAULT_POPULARITY_WEIGHT
    context.observer.note(FitsBegun())
    judged = None
    if learn_before(fits, last):
        judged = _judged(context, fits, weight, fewest=MIN_USERS_TO_MOVE if start else MIN_USERS_TO_CHOOSE)
    if judged is None:
        return _trained(context, fits, weight)
    context.observer.note(judged)
    with _shown_when_refused(context, interactions, fits, judged, live_model):
        return _gated(context, interactions, fits, judged, live_model)


def learn_before(fits: Fits, last: datetime) -> bool:
    """Learn from all data before the last day; return whether there was any.

    What nothing was learnt from yet is learnt from but for a day, then that day: as the last one is learnt from after
    it, and as the live model has learnt. Else a full fit would be judged without what many passes over a day bring.
    """
    if fits.until is None and not fits.resume("validated"):  # which has learnt what "earlier" has
        fits.fit("earlier", last - DAY, watched=last)
    return fits.until == last or fits.fit("validated", last, watched=last)


def _judged(context: RunContext, fits: Fits, weight: float, *, fewest: int) -> Judged | None:
    """Return the quality of a fit, None if no user can be judged."""
    day = fits.held_out(midnight(context.window.last))
    if not len(day.users):
        return None
    with context.observer.stage("evaluate"):
        candidate = fits.representations_of(day.users)
        evaluation = evaluate(candidate.scores, day, weight, fewest=fewest, threads=context.settings.retrain_threads)
    return Judged(candidate=candidate, evaluation=evaluation)


def _gated(
    context: RunContext, interactions: Interactions, fits: Fits, judged: Judged, live_model: LiveModel | None
) -> Trained:
    """Learn from the last day; RunError when the result may not go live."""
    settings = context.settings
    with context.observer.stage("gate"):
        verdict = judge(
            fits.held_out(midnight(context.window.last)),
            judged.evaluation,
            judged.candidate,
            live_model,
            since=midnight(context.window.last),
            until=context.window.until,
            threads=settings.retrain_threads,
            seed=settings.retrain_seed,
        )
    _require(context, verdict)
    rival = _rival(context, interactions, fits, live_model) if live_model else None
    trial = _tried(context, fits, rival, judged.evaluation.weight) if rival else None
    trained = _trained(context, fits, _next_weight(judged.evaluation), judged.evaluation)
    final = trained.representations
    with context.observer.stage("gate"):
        problems = [*length_problems(final, judged.candidate, "the fit before the last day")]
        if trial:
            problems += final_problems(trial, final, threads=settings.retrain_threads, seed=settings.retrain_seed)
    _require(context, Verdict(users=0, problems=tuple(problems)))
    return trained


def _next_weight(evaluation: Evaluation) -> float:
    """Return the weight to publish with: a better one for the last day, unless it harms pages."""
    before, after = evaluation.weight, evaluation.next_weight
    if evaluation.with_next_weight.ndcg <= evaluation.lightfm_prior.ndcg:
        return before
    problems = list(page_problems(evaluation.with_next_weight, evaluation.popularity, evaluation.lightfm_prior))
    if problems:
        logger.warning("popularity_weight.kept", weight=before, refused=after, problems=problems)
        return before
    logger.info("popularity_weight.moved", before=before, after=after, users=evaluation.users)
    return after


def _trained(context: RunContext, fits: Fits, weight: float, evaluation: Evaluation | None = None) -> Trained:
    """Learn from the remaining data; RunError when there is none, or when numbers are not finite."""
    if not fits.fit("final", context.window.until):
        raise RunError(Reason.DATA, "the exports hold no positive interaction: there is nothing to learn from")
    representations = fits.representations()
    problem = representations.problem()
    if problem:
        raise RunError(Reason.TRAINING, problem)
    return Trained(
        representations=representations,
        popularity_weight=weight,
        evaluation=evaluation,
        checkpoint=fits.checkpoint(UNPUBLISHED, weight),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rival:
    """The live model on the second half of the last day."""

    since: datetime
    """When the half begins."""
    half: HeldOutDay
    pages: NDArray[np.int64]
    lift: float | None
    """How much better than popularity it was when it was judged."""


def _rival(context: RunContext, interactions: Interactions, fits: Fits, live_model: LiveModel) -> _Rival | None:
    """Return the model to compare a trial with; None if the live model knows the day, or users are few."""
    last, until = midnight(context.window.last), context.window.until
    middle = interactions.middle(last, until)
    if middle is None or live_model.knows(last):
        return None
    with context.observer.stage("gate"):
        half = fits.part_of_day(middle, until).sample(TRIAL_USERS, seed=context.settings.retrain_seed)
        if len(half.users) < MIN_USERS:
            return None
        pages = live_pages(live_model, half, threads=context.settings.retrain_threads)
    return _Rival(since=middle, half=half, pages=pages, lift=lift_of(live_model))


def _tried(context: RunContext, fits: Fits, rival: _Rival, weight: float) -> HalfDayCandidate:
    """Learn from the first half of the last day; RunError when that does harm."""
    fits.fit("half", rival.since)
    with context.observer.stage("gate"):
        trial = judge_trial(
            rival.half,
            fits.representations_of(rival.half.users),
            weight,
            rival.pages,
            lift=rival.lift,
            threads=context.settings.retrain_threads,
            seed=context.settings.retrain_seed,
        )
    _require(context, trial.verdict)
    return trial


@contextmanager
def _shown_when_refused(
    context: RunContext, interactions: Interactions, fits: Fits, judged: Judged, live_model: LiveModel | None
) -> Iterator[None]:
    """Show the pages judged on the last day in the report of a refused model."""
    try:
        yield
    except RunError as failure:
        if failure.reason is Reason.QUALITY:
            with best_effort("showcase.failed", context.observer), context.observer.stage("showcase"):
                context.observer.note(
                    showcase(
                        interactions,
                        fits.held_out(midnight(context.window.last)),
                        judged.candidate.scores,
                        judged.evaluation.weight,
                        live_model,
                        since=midnight(context.window.last),
                        threads=context.settings.retrain_threads,
                        seed=context.settings.retrain_seed,
                    )
                )
        raise


def _require(context: RunContext, verdict: Verdict) -> None:
    """Record and log the findings of a gate, and raise RunError when it refuses the candidate."""
    context.observer.note(verdict)
    for comparison in verdict.comparisons:
        logger.info("gate.compared", rival=comparison.rival, found=str(comparison), users=verdict.users)
    for problem in verdict.problems:
        logger.warning("gate.quality", problem=problem, forced=context.force)
    if verdict.problems and not context.force:
        raise RunError(Reason.QUALITY, f"{'; '.join(verdict.problems)} (--force publishes it all the same)")
