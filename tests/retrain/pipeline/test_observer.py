"""What a run's observer makes of what stages return."""

import pytest

from retrain.gates.quality_gate import Verdict
from retrain.pipeline.observer import FitsBegun, Named, RunObserver, Undone
from retrain.pipeline.results import DataFindings, WorkIdentity
from retrain.report.data import Epoch


def test_nothing_is_known_at_first() -> None:
    found = RunObserver().findings
    assert (found.input_digest, found.parent, found.version, found.counts) == ("", None, None, None)
    assert found.data_problems is None
    assert (found.quality(), dict(found.stage_seconds), found.undone) == ({}, {}, ())


def test_stages_of_one_name_add_up_also_one_that_fails() -> None:
    clock = iter([0.0, 1.0, 10.0, 12.5, 20.0, 24.0])
    observer = RunObserver(lambda: next(clock))
    with observer.stage("fit"):
        pass
    with observer.stage("gate"):
        pass
    with pytest.raises(ValueError, match="diverged"), observer.stage("fit"):
        raise ValueError("diverged")
    assert dict(observer.findings.stage_seconds) == {"fit": 5.0, "gate": 2.5}


def test_what_was_found_does_not_change_later() -> None:
    observer = RunObserver(lambda: 0.0)
    before = observer.findings
    with observer.stage("prepare"):
        observer.note(WorkIdentity(input_digest="abc", parent="v1"))
    assert (before.input_digest, dict(before.stage_seconds)) == ("", {})
    assert (observer.findings.input_digest, observer.findings.parent) == ("abc", "v1")


def test_verdicts_add_up_and_fits_begun_anew_forget_their_epochs() -> None:
    observer = RunObserver()
    observer.note(Epoch(fit="validated", epoch=1, ndcg=0.1))
    for problem in ("too short", "worse"):
        observer.note(Verdict(users=7, problems=(problem,)))
    assert observer.findings.verdict == Verdict(users=7, problems=("too short", "worse"))
    observer.note(FitsBegun())
    observer.note(Epoch(fit="earlier", epoch=2, ndcg=0.2))
    assert [one.fit for one in observer.findings.epochs] == ["earlier"]


def test_each_result_has_its_place() -> None:
    observer = RunObserver()
    observer.note(DataFindings(days=(), problems=("few rows",)))
    observer.note(Named("v2"))
    for step in ("checkpoint", "report"):
        observer.note(Undone(step))
    found = observer.findings
    assert (found.data_problems, found.version, found.undone) == (("few rows",), "v2", ("checkpoint", "report"))
