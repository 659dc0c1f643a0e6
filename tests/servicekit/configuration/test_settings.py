"""A program with wrong settings ends with one line for each wrong variable."""

import os
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, SecretStr

from servicekit.configuration.setting_types import Formerly, Number
from servicekit.configuration.settings import USAGE_ERROR, Settings, fail, former_names


class ExampleSettings(Settings):
    """Settings of every kind."""

    example_url: str = Field(description="where it is")
    example_interval_s: Number = Field(5.0, ge=0.01, le=60, description="seconds between two looks")
    example_password: SecretStr = Field(SecretStr("none"), description="what opens it")
    example_kinds: tuple[str, ...] = Field(("a", "b"), description="a JSON list")
    example_folder: Annotated[Path | None, Formerly("SAMPLE_FOLDER")] = Field(None, description="where it is kept")


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*ExampleSettings.model_fields, *former_names(ExampleSettings)):
        monkeypatch.setenv(name.upper(), "")
        monkeypatch.delenv(name.upper())
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("EXAMPLE_INTERVAL_S", "0.5")
    settings = ExampleSettings.load()
    assert (settings.example_url, settings.example_interval_s) == ("file:///models", 0.5)


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("EXAMPLE_INTERVAL_S", "")
    assert ExampleSettings.load().example_interval_s == 5.0


def test_every_wrong_variable_has_its_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EXAMPLE_INTERVAL_S", "-1")
    with pytest.raises(SystemExit) as ended:
        ExampleSettings.load()
    assert ended.value.code == USAGE_ERROR
    assert capsys.readouterr().err.splitlines() == [
        "error: EXAMPLE_URL: Field required",
        "error: EXAMPLE_INTERVAL_S: Input should be greater than or equal to 0.01",
    ]


def test_a_secret_may_stand_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_text("sesame\n", encoding="utf-8")
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("EXAMPLE_PASSWORD_FILE", str(tmp_path / "password"))
    assert ExampleSettings.load().example_password.get_secret_value() == "sesame"
    assert "EXAMPLE_PASSWORD" not in os.environ, "processes that this one starts read the file themselves"
    assert ExampleSettings.load().example_password.get_secret_value() == "sesame"
    assert capsys.readouterr().err == ""


def test_a_variable_wins_over_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("EXAMPLE_PASSWORD", "given")
    monkeypatch.setenv("EXAMPLE_PASSWORD_FILE", str(tmp_path / "none"))
    assert ExampleSettings.load().example_password.get_secret_value() == "given"


def test_a_missing_secret_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("EXAMPLE_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(SystemExit):
        ExampleSettings.load()
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "none") in line


def test_a_secret_file_that_is_no_text_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("EXAMPLE_PASSWORD_FILE", str(tmp_path / "password"))
    with pytest.raises(SystemExit):
        ExampleSettings.load()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: EXAMPLE_PASSWORD_FILE: {tmp_path / 'password'} is not UTF-8"


def test_a_secret_beside_its_file_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("EXAMPLE_PASSWORD", "given")
    monkeypatch.setenv("EXAMPLE_PASSWORD_FILE", str(tmp_path / "none"))
    ExampleSettings.load()
    told = capsys.readouterr().err
    assert told == "warning: EXAMPLE_PASSWORD_FILE is ignored, as EXAMPLE_PASSWORD is set as well\n"


def test_a_file_of_what_is_no_secret_is_read_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "url").write_text("file:///models\n", encoding="utf-8")
    monkeypatch.setenv("EXAMPLE_URL_FILE", str(tmp_path / "url"))
    assert ExampleSettings.load().example_url == "file:///models"
    told = capsys.readouterr().err
    assert told == "warning: EXAMPLE_URL_FILE is read, but EXAMPLE_URL is no secret: it may be set itself\n"


def test_a_former_name_works_and_names_the_new_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("SAMPLE_FOLDER", "/kept")
    assert ExampleSettings.load().example_folder == Path("/kept")
    told = capsys.readouterr().err
    assert told == "warning: SAMPLE_FOLDER is now called EXAMPLE_FOLDER; the former name will go\n"
    assert ExampleSettings.load().example_folder == Path("/kept"), "as it is for processes that this one starts"
    assert capsys.readouterr().err == "", "said once"


def test_the_new_name_wins_over_the_former(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("SAMPLE_FOLDER", "/old")
    monkeypatch.setenv("EXAMPLE_FOLDER", "/new")
    assert ExampleSettings.load().example_folder == Path("/new")
    told = capsys.readouterr().err
    assert told == "warning: SAMPLE_FOLDER is ignored, as its new name EXAMPLE_FOLDER is set as well\n"


def test_a_misspelt_setting_of_any_program_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("RETRAIN_FACTOR", "16")
    monkeypatch.setenv("BRIDGE_LISTN", "secret")
    with pytest.raises(SystemExit) as ended:
        ExampleSettings.load()
    assert ended.value.code == USAGE_ERROR
    assert capsys.readouterr().err.splitlines() == [
        "error: BRIDGE_LISTN is no setting; did you mean BRIDGE_LISTEN?",
        "error: RETRAIN_FACTOR is no setting; did you mean RETRAIN_FACTORS?",
    ]


def test_a_misspelt_setting_may_be_let_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("RETRAIN_FACTOR", "16")
    monkeypatch.setenv("UNKNOWN_SETTINGS", "warn")
    ExampleSettings.load()
    assert capsys.readouterr().err == "warning: RETRAIN_FACTOR is no setting; did you mean RETRAIN_FACTORS?\n"
    ExampleSettings.load(warn=False)
    assert capsys.readouterr().err == ""


def test_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXAMPLE_URL", "file:///models")
    monkeypatch.setenv("EXAMPLE_PASSWORD", "sesame")
    assert "sesame" not in repr(ExampleSettings.load())


def test_the_description_names_every_variable() -> None:
    lines = [line.split() for line in ExampleSettings.describe().splitlines()]
    assert [line[0] for line in lines] == [
        "EXAMPLE_URL",
        "EXAMPLE_INTERVAL_S",
        "EXAMPLE_PASSWORD",
        "EXAMPLE_KINDS",
        "EXAMPLE_FOLDER",
        "UNKNOWN_SETTINGS",
    ]
    assert lines[0][-1] == "(required)"
    assert lines[1][-2:] == ["(default", "5.0)"]
    assert lines[3][-3:] == ["(default", '["a",', '"b"])'], "as it is to be given"


def test_failing_leaves_one_line_a_problem(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        fail("one", "two", status=1)
    assert (ended.value.code, capsys.readouterr().err) == (1, "error: one\nerror: two\n")
