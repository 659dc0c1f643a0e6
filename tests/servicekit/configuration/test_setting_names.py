"""A variable that looks like a setting and is none is told; what belongs to others is left alone."""

import pytest

from servicekit.configuration.setting_names import unknown_settings

MISSPELT = [
    ("RETRAIN_FACTOR", "RETRAIN_FACTORS"),
    ("BRIDGE_LISTN", "BRIDGE_LISTEN"),
    ("RECSVC_WORKER", "RECSVC_WORKERS"),
    ("LIGHTFM_GRPC_ENDPONIT", "LIGHTFM_GRPC_ENDPOINT"),
    ("TRENDING_HALFLIFE_H", "TRENDING_HALF_LIFE_H"),
    ("BREAKER_OPENS_S", "BREAKER_OPEN_S"),
    ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
    ("KAFKA_SASL_MECHANISMS", "KAFKA_SASL_MECHANISM"),
    ("KAFKA_SASL_PASWORD_FILE", "KAFKA_SASL_PASSWORD_FILE"),
    ("SNOWFLAKE_ACOUNT", "SNOWFLAKE_ACCOUNT"),
    ("INTERACTIONS_URI", "INTERACTIONS_URL"),
    ("retrain_factor", "RETRAIN_FACTORS"),
]
DOUBTFUL = [
    ("DATABSE_URL", "DATABASE_URL"),
    ("LOG_LEVLE", "LOG_LEVEL"),
    ("MODEL_STORE_ULR", "MODEL_STORE_URL"),
    ("RETRIAN_FACTORS", "RETRAIN_FACTORS"),
    ("DD_AGENT_HOSTS", "DD_AGENT_HOST"),
]
OTHERS = {
    "BRIDGE_SERVICE_HOST": "10.0.0.1",
    "BRIDGE_SERVICE_PORT": "50052",
    "BRIDGE_SERVICE_PORT_GRPC": "50052",
    "BRIDGE_PORT": "tcp://10.0.0.1:50052",
    "BRIDGE_PORT_50052_TCP": "tcp://10.0.0.1:50052",
    "BRIDGE_PORT_50052_TCP_ADDR": "10.0.0.1",
    "RECSVC_PORT": "tcp://10.0.0.2:50051",
    "RECSVC_CANARY_PORT_50051_TCP_PROTO": "tcp",
    "RETRAIN_METRICS_SERVICE_HOST": "10.0.0.3",
    "KAFKA_BROKERS_SERVICE_HOST": "10.0.0.4",
    "DD_ENV": "production",
    "DD_SERVICE": "bridge",
    "DD_AGENT_PORT": "8126",
    "DD_TRACE_AGENT_URL": "http://127.0.0.1:8126",
    "AWS_REGION": "eu-west-1",
    "AWS_ROLE_ARN": "arn",
    "OPENBLAS_NUM_THREADS": "1",
    "DATABASE_NAME": "shop",
    "MODEL_NAME": "large",
    "LOG_FORMAT": "json",
    "RETRAIN_NIGHTLY": "full",
    "RECSVC_SUPERVISOR_FD": "5",
    "LIGHTFM_NO_CFLAGS": "1",
    "PATH": "/bin",
    "_": "/bin/env",
}


@pytest.mark.parametrize(("variable", "meant"), MISSPELT)
def test_a_misspelt_setting_is_an_error(variable: str, meant: str) -> None:
    found = unknown_settings({variable: "sesame"})
    assert (found.errors, found.warnings) == ([f"{variable} is no setting; did you mean {meant}?"], [])


@pytest.mark.parametrize(("variable", "meant"), DOUBTFUL)
def test_what_resembles_a_setting_is_a_warning(variable: str, meant: str) -> None:
    found = unknown_settings({variable: "sesame"})
    assert (found.errors, found.warnings) == ([], [f"{variable} is no setting; did you mean {meant}?"])


@pytest.mark.parametrize("variable", OTHERS)
def test_what_belongs_to_others_is_left_alone(variable: str) -> None:
    found = unknown_settings({variable: OTHERS[variable]})
    assert (found.errors, found.warnings) == ([], [])


def test_nothing_like_it_is_suggested_where_nothing_is() -> None:
    assert unknown_settings({"RETRAIN_COLOUR_OF_THE_SKY": "blue"}).errors == ["RETRAIN_COLOUR_OF_THE_SKY is no setting"]


def test_what_other_programs_of_kafka_read_is_a_warning() -> None:
    found = unknown_settings({"KAFKA_HEAP_OPTS": "-Xmx1g", "SNOWFLAKE_SCHEMA": "feed"})
    assert found.errors == []
    assert found.warnings == ["KAFKA_HEAP_OPTS is no setting", "SNOWFLAKE_SCHEMA is no setting"]


def test_a_port_by_hand_is_a_warning() -> None:
    """Kubernetes has a variable of this name for each service, so it never ends a start."""
    found = unknown_settings({"RECSVC_PORT": "50051"})
    assert (found.errors, found.warnings) == ([], ["RECSVC_PORT is no setting"])


def test_an_empty_variable_is_none() -> None:
    assert unknown_settings({"RETRAIN_FACTOR": ""}).errors == []


def test_files_of_settings_and_own_names_are_known() -> None:
    found = unknown_settings({"DATABASE_URL_FILE": "/f", "RETRAIN_NEW": "1"}, own=["RETRAIN_NEW"])
    assert (found.errors, found.warnings) == ([], [])
