"""Assignment of users to variants."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.feed.experiments import NO_EXPERIMENT, Algorithm, Experiment, Experiments, Variant, load_experiment
from servicekit.grpc.errors import ServiceError

USERS = [f"u{number}" for number in range(20_000)]


def _experiments(name: str = "e1", **shares: float) -> Experiments:
    return Experiments(Experiment(id=name, variants=tuple(Variant(id=one, share=part) for one, part in shares.items())))


def _assigned(experiments: Experiments) -> dict[str, str]:
    return {user: experiments.arm(user).variant_id for user in USERS}


def test_shares_are_kept() -> None:
    """Each variant gets its share of users within five standard deviations, and the rest get none."""
    counts = Counter(_assigned(_experiments(a=0.5, b=0.1, c=0.0)).values())
    assert set(counts) == {"a", "b", ""}
    for variant, share in {"a": 0.5, "b": 0.1, "": 0.4}.items():
        deviation = (len(USERS) * share * (1 - share)) ** 0.5
        assert abs(counts[variant] - share * len(USERS)) < 5 * deviation


def test_assignment_is_pinned() -> None:
    """It must never change between releases: users would change their variants in mid-experiment."""
    assert [_experiments(a=0.3, b=0.3).arm(user).variant_id for user in USERS[:12]] == PINNED


PINNED = ["", "", "a", "b", "", "b", "", "a", "", "b", "a", ""]


def test_growing_a_share_moves_nobody_away() -> None:
    before, after = _assigned(_experiments(a=0.1)), _assigned(_experiments(a=0.3))
    assert all(after[user] == "a" for user, variant in before.items() if variant == "a")


def test_experiments_are_independent() -> None:
    """Half of those in the first experiment's arm are in the second one's, not all or none."""
    first, second = _assigned(_experiments("e1", a=0.5)), _assigned(_experiments("e2", a=0.5))
    both = sum(first[user] == second[user] == "a" for user in USERS)
    assert abs(both / len(USERS) - 0.25) < 0.02


@given(st.text(max_size=20))
def test_any_user_has_one_arm(user_id: str) -> None:
    experiments = _experiments(a=0.5, b=0.5)
    arm = experiments.arm(user_id)
    assert arm == experiments.arm(user_id)
    assert (arm.variant_id in {"a", "b"}) == bool(user_id)


def test_caller_may_choose() -> None:
    experiments = _experiments(a=1.0, preview=0.0)
    assert experiments.arm("u1", "preview").variant_id == "preview"
    assert experiments.arm("", "a").variant_id == "a"


@pytest.mark.parametrize("experiments", [Experiments(), _experiments(a=1.0)])
def test_unknown_variant_is_named(experiments: Experiments) -> None:
    with pytest.raises(ServiceError) as caught:
        experiments.arm("u1", "other")
    assert [violation.field for violation in caught.value.violations] == ["experiment_variant_id"]


def test_no_experiment() -> None:
    assert Experiments().arm("u1") == NO_EXPERIMENT


def test_file(tmp_path: Path) -> None:
    path = tmp_path / "experiment.json"
    variants = [
        {"id": "diverse", "share": 0.5, "parameters": {"diversity": 0.3}},
        {"id": "popular", "share": 0.5, "algorithm": "trending"},
    ]
    path.write_text(json.dumps({"id": "e", "variants": variants}))
    experiments = Experiments(load_experiment(path))
    assert experiments.arm("u", "diverse").diversity == 0.3
    assert experiments.arm("u", "popular").algorithm is Algorithm.TRENDING


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("", "file"),
        ([], "file"),
        ({"id": "e", "variants": []}, "variants"),
        ({"id": "", "variants": [{"id": "a", "share": 1}]}, "id"),
        ({"id": "e", "variants": [{"id": "a", "share": 1.1}]}, "variants.0.share"),
        ({"id": "e", "variants": [{"id": "a", "share": 0.6}, {"id": "b", "share": 0.6}]}, "add up to more than 1"),
        ({"id": "e", "variants": [{"id": "a", "share": 0}, {"id": "a", "share": 0}]}, "same id"),
        ({"id": "e", "variants": [{"id": "a", "share": 1, "algorithm": "magic"}]}, "variants.0.algorithm"),
        ({"id": "e", "variants": [{"id": "a", "share": 1, "parameters": {"diversty": 1}}]}, "diversty"),
        ({"id": "e", "variants": [{"id": "a", "share": float("nan")}]}, "NaN"),
        ({"id": "e", "variants": [{"id": "a", "share": True}]}, "variants.0.share"),
        ({"id": "e", "variants": [{"id": "a", "share": "1"}]}, "variants.0.share"),
        ({"id": "e", "variants": [{"id": "a", "share": 1}], "seed": 1}, "seed"),
    ],
)
def test_wrong_file_is_one_clear_line(tmp_path: Path, document: Any, words: str) -> None:
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(document) if document else "")
    with pytest.raises(ValueError, match=words) as caught:
        load_experiment(path)
    assert "\n" not in str(caught.value)


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "experiment.json"
    path.write_text('{"id": "e", "variants": [{"id": "a", "share": 0.5, "share": 0.1}]}')
    with pytest.raises(ValueError, match="share stands there twice"):
        load_experiment(path)
