"""The files that schedule the nightly run: what they name exists."""

import argparse
import configparser
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml  # type: ignore[import-untyped]  # comes with moto, without types

from retrain.__main__ import _command_line
from retrain.settings import ExportSettings, RetrainSettings
from servicekit.configuration.settings import Settings

DEPLOY: Final = Path(__file__).parents[3] / "deploy"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # names of systemd have capitals
    parser.read_string((DEPLOY / "systemd" / name).read_text(encoding="utf-8"))
    return parser


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the program's arguments; SystemExit when it does not know them."""
    assert arguments[0] == "retrain"
    return _command_line().parse(arguments[1:])


def cron_job(name: str, settings: type[Settings]) -> tuple[Any, argparse.Namespace, set[str]]:
    """Return what a job is, what it runs, and the settings that it names, all of which exist."""
    job: Any = yaml.safe_load((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    spec = job["spec"]
    assert (spec["timeZone"], spec["concurrencyPolicy"]) == ("Etc/UTC", "Forbid")
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}
    names = {one["name"].removesuffix("_FILE") for one in container["env"]}
    assert names <= {name.upper() for name in settings.model_fields}
    return spec, parsed(container["args"]), names


def test_the_cron_job_runs_what_is_due_with_known_settings() -> None:
    spec, arguments, names = cron_job("retrain.yaml", RetrainSettings)

    assert arguments.once
    assert spec["schedule"].split()[1].startswith("2-")
    assert {"INTERACTIONS_URL", "MODEL_STORE_URL", "DATABASE_URL"} <= names
    # A run must not outlive its job unseen: the schedule ends and reports it first.
    assert (
        spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > RetrainSettings.model_fields["schedule_limit_s"].default
    )


def test_another_one_exports_the_day_before_it() -> None:
    spec, arguments, names = cron_job("export.yaml", ExportSettings)

    assert arguments.date is None
    assert spec["schedule"].split()[1] == "0"
    assert names == {"INTERACTIONS_URL", "DATABASE_URL"}


@pytest.mark.parametrize(("name", "command"), [("lightfm-retrain", "schedule"), ("lightfm-export", "export")])
def test_a_timer_starts_its_service(name: str, command: str) -> None:
    timer, service = unit(f"{name}.timer"), unit(f"{name}.service")
    assert timer["Timer"]["Persistent"] == "true"
    assert timer["Timer"]["OnCalendar"].endswith("UTC")
    started = service["Service"]["ExecStart"].split()
    assert started[1] == "-m"
    parsed(started[2:])
    assert started[3] == command


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
@pytest.mark.parametrize(("name", "first"), [("lightfm-retrain", "02:00:00"), ("lightfm-export", "00:30:00")])
def test_a_timer_means_what_it_says(name: str, first: str) -> None:
    when = unit(f"{name}.timer")["Timer"]["OnCalendar"]
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--base-time=2026-03-05 00:00:00 UTC", when],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"{first} UTC" in done.stdout
