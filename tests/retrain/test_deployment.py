"""The files that schedule the nightly run: what they name exists."""

import configparser
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]  # comes with moto, without types

from retrain.__main__ import _parser
from retrain.settings import RetrainSettings

DEPLOY: Final = Path(__file__).parents[2] / "deploy"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names of systemd have capitals
    parser.read_string((DEPLOY / "systemd" / name).read_text(encoding="utf-8"))
    return parser


def understood(arguments: list[str]) -> bool:
    """Return whether the program knows its arguments; it ends the test with SystemExit when it does not."""
    assert arguments[0] == "retrain"
    return bool(_parser().parse_args(arguments[1:]).once)


def test_the_cron_job_runs_what_is_due_with_known_settings() -> None:
    job: Any = yaml.safe_load((DEPLOY / "kubernetes" / "retrain.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    spec = job["spec"]
    assert (spec["timeZone"], spec["concurrencyPolicy"]) == ("Etc/UTC", "Forbid")
    assert spec["schedule"].split()[1].startswith("2-")
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert understood(container["args"])
    names = {one["name"].removesuffix("_FILE") for one in container["env"]}
    fields = {name.upper() for name in RetrainSettings.model_fields}
    assert names <= fields
    assert {"INTERACTIONS_URL", "MODEL_STORE_URL", "DATABASE_URL"} <= names
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}
    # A run must not outlive its job unseen: the schedule ends and reports it first.
    assert (
        spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > RetrainSettings.model_fields["schedule_limit_s"].default
    )


def test_the_timer_starts_the_service_from_two_o_clock() -> None:
    timer, service = unit("lightfm-retrain.timer"), unit("lightfm-retrain.service")
    assert timer["Timer"]["Persistent"] == "true"
    assert timer["Timer"]["OnCalendar"].endswith("UTC")
    command = service["Service"]["ExecStart"].split()
    assert command[1] == "-m"
    assert understood(command[2:])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_the_timer_means_what_it_says() -> None:
    when = unit("lightfm-retrain.timer")["Timer"]["OnCalendar"]
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--base-time=2026-03-05 00:00:00 UTC", when],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "02:00:00 UTC" in done.stdout
