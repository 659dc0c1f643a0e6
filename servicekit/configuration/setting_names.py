"""Lists the names of all settings of all programs, and other variables of the environment.

A variable that no program knows is most likely a misspelt setting, which would be ignored without a word. Every program
knows the names of all of them, since one file of variables often serves several programs.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

SETTING_NAMES: Final = frozenset(
    {
        "ANONYMOUS_USERS",
        "BREAKER_FAILURES",
        "BREAKER_FAILURE_RATIO",
        "BREAKER_OPEN_S",
        "BRIDGE_DRAIN_GRACE_S",
        "BRIDGE_LAME_DUCK_S",
        "BRIDGE_LISTEN",
        "CATALOGUE_URL",
        "DATABASE_CONNECTIONS",
        "DATABASE_URL",
        "DD_AGENT_HOST",
        "DD_DOGSTATSD_PORT",
        "EVENT_ID_DAYS",
        "EXPERIMENT_PATH",
        "EXPORT_MARKER",
        "FEATURES_INTERVAL_S",
        "INTERACTIONS_URL",
        "INTERACTION_BUDGET_MS",
        "INTERACTION_ORDER_WAIT_S",
        "KAFKA_AWS_REGION",
        "KAFKA_AWS_ROLE_ARN",
        "KAFKA_BOOTSTRAP_SERVERS",
        "KAFKA_CA_FILE",
        "KAFKA_CERT_FILE",
        "KAFKA_FLUSH_S",
        "KAFKA_KEY_FILE",
        "KAFKA_REPLICATION",
        "KAFKA_SASL_MECHANISM",
        "KAFKA_SASL_PASSWORD",
        "KAFKA_SASL_USERNAME",
        "KAFKA_SECURITY_PROTOCOL",
        "KAFKA_STALL_S",
        "KAFKA_WARM_UP_S",
        "LIGHTFM_BUDGET_MS",
        "LIGHTFM_CONNECTIONS",
        "LIGHTFM_GRPC_ENDPOINT",
        "LOG_LEVEL",
        "MODEL_CACHE_DIR",
        "MODEL_POLL_INTERVAL_S",
        "MODEL_SIGNING_KEY",
        "MODEL_STORE_URL",
        "MODEL_VERIFY_KEY",
        "MODEL_VERSIONS_KEPT",
        "PAGE_TOKEN_KEYS",
        "POSITION_SYNC_ENDPOINT",
        "RECSVC_DIRECT_CALLS",
        "RECSVC_DRAIN_GRACE_S",
        "RECSVC_FRESHNESS_INTERVAL_S",
        "RECSVC_LAME_DUCK_S",
        "RECSVC_LISTEN",
        "RECSVC_LIVE_STATE_MIB",
        "RECSVC_PRECOMPUTED_USERS",
        "RECSVC_THREADS",
        "RECSVC_WORKERS",
        "RETRAIN_BIAS_SHARE",
        "RETRAIN_EPOCHS",
        "RETRAIN_EVALUATION_USERS",
        "RETRAIN_FACTORS",
        "RETRAIN_FULL_FIT_DAYS",
        "RETRAIN_HALF_LIFE_DAYS",
        "RETRAIN_LEARNING_RATE",
        "RETRAIN_LOSS",
        "RETRAIN_MEMORY",
        "RETRAIN_POPULARITY_HALF_LIFE_DAYS",
        "RETRAIN_RECENT_HALF_LIFE",
        "RETRAIN_RECENT_SHARE",
        "RETRAIN_REPLAYED_SHARE",
        "RETRAIN_REPORT_PATH",
        "RETRAIN_SEED",
        "RETRAIN_THREADS",
        "RETRAIN_WARM_START",
        "RETRAIN_WINDOW_DAYS",
        "RETRAIN_WORK_DIR",
        "SCHEDULE_CATCH_UP_DAYS",
        "SCHEDULE_LIMIT_S",
        "SCHEDULE_RETRY_S",
        "SEGMENT_FLUSH_S",
        "SEGMENT_URL",
        "SEGMENT_WRITE_KEY",
        "SNOWFLAKE_ACCOUNT",
        "SNOWFLAKE_DATABASE",
        "SNOWFLAKE_PASSWORD",
        "SNOWFLAKE_ROLE",
        "SNOWFLAKE_URL",
        "SNOWFLAKE_USER",
        "SNOWFLAKE_WAREHOUSE",
        "TLS_CA_FILE",
        "TLS_CERT_FILE",
        "TLS_KEY_FILE",
        "TRENDING_HALF_LIFE_H",
        "TRENDING_INTERVAL_S",
        "TRENDING_SNAPSHOT_PATH",
        "TRENDING_UNKNOWN_VIDEOS",
        "TRENDING_VIDEOS",
        "TRENDING_WINDOW_H",
        "UNKNOWN_SETTINGS",
        "USER_TOKEN_LIFETIME_S",
        "USER_KEYS_PATH",
        "USER_TOKEN_ALGORITHMS",
        "USER_TOKEN_AUDIENCE",
        "USER_TOKEN_ISSUER",
    }
)
"""Fields of all classes of settings. A test compares them, and says what is missing here."""
FORMER: Final = frozenset(
    {
        "ANONYMOUS_VIEWERS",
        "RECSVC_PRECOMPUTED_VIEWERS",
        "VIEWER_KEYS_PATH",
        "VIEWER_TOKEN_ALGORITHMS",
        "VIEWER_TOKEN_AUDIENCE",
        "VIEWER_TOKEN_ISSUER",
    }
)
"""Former names of settings, which still work."""
RETIRED: Final = {
    "RECSVC_PROFILE_INTERACTIONS": "profiles are on disk; RECSVC_LIVE_STATE_MIB bounds them",
}
"""Names of settings that are gone, and what to know instead; they are taken with a warning for one release."""
ELSEWHERE: Final = frozenset(
    {
        "BACKLOG_EVENTS",
        "BACKLOG_RATE",
        "BACKLOG_USERS",
        "FEED_FAULTS_RATE",
        "FEED_FAULTS_S",
        "FEED_HEDGING_S",
        "FEED_OVERHEAD_ROUNDS",
        "FEED_SOAK_CALLS",
        "FEED_SOAK_S",
        "INGESTION_EVENTS",
        "LIGHTFM_NO_CFLAGS",
        "LIVE_REPLAY_INTERACTIONS",
        "LIVE_REPLAY_PAGES",
        "LIVE_REPLAY_USERS",
        "MODEL_SWAP_SECONDS",
        "OUTAGE_RATE",
        "OUTAGE_SECONDS",
        "RECSVC_CALL_ROUNDS",
        "RECSVC_LIVE_PAGES_CALLS",
        "RECSVC_LIVE_PAGES_ROUNDS",
        "RECSVC_SCALE_STEPS",
        "RECSVC_SESSION",
        "RECSVC_SUPERVISOR_FD",
        "RECSVC_WORKERS_SECONDS",
        "RETRAIN_NIGHTLY",
        "RETRAIN_NIGHTLY_GENERATED",
        "RETRAIN_QUALITY",
        "RETRAIN_SCALE",
        "RETRAIN_SCALE_PREPARE",
        "RETRAIN_WARM_SEEDS",
        "RETRIEVAL_SIZES",
    }
)
"""What benchmarks, builds and programs among themselves read."""
OWN: Final = (
    "BREAKER_", "BRIDGE_", "INTERACTION_", "INTERACTIONS_", "LIGHTFM_", "RECSVC_", "RETRAIN_", "TRENDING_", "USER_"
)  # fmt: skip
"""Nobody else's variables begin with these, Kubernetes' apart."""
SHARED: Final = ("KAFKA_", "SCHEDULE_", "SEGMENT_", "SNOWFLAKE_")
"""Others' programs have variables with these too, so only one that resembles a setting is a mistake for certain."""
_FOREIGN: Final = ("AWS_", "DD_TRACE_", "OTEL_", "PG", "POSTGRES_")
_SERVICE: Final = re.compile(
    r"_SERVICE_HOST$|_SERVICE_PORT(_[A-Z0-9_]+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$"
)
"""What Kubernetes tells each container of each service: of one that is called bridge, BRIDGE_SERVICE_HOST."""
_FILE: Final = "_FILE"


@dataclass(slots=True)
class Findings:
    """Problems of an environment.

    Attributes:
        errors: One line for each variable that must be a mistake.
        warnings: One line for each that may be one.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def unknown_settings(environment: Mapping[str, str], own: Iterable[str] = ()) -> Findings:
    """Return variables that look like settings of this project and are none; values are never shown.

    Args:
        environment: All variables.
        own: Names that the asking program knows besides all programs'.
    """
    known = SETTING_NAMES | FORMER | ELSEWHERE | set(own)
    findings = Findings()
    for variable in sorted(environment):
        name = variable.upper()
        if environment[variable] and name in RETIRED:
            findings.warnings.append(f"{variable} is ignored: {RETIRED[name]}")
            continue
        if not environment[variable] or name in known or name.removesuffix(_FILE) in known:
            continue
        if _SERVICE.search(name) or (name.endswith("_PORT") and "://" in environment[variable]):
            continue
        _judge(variable, known, findings)
    return findings


def _judge(variable: str, known: Iterable[str], findings: Findings) -> None:
    name = variable.upper()
    candidates = [*known, *(one + _FILE for one in known)]
    if not name.startswith((*OWN, *SHARED)):  # most variables: only what may differ by two letters is compared
        candidates = [one for one in candidates if len({*one} ^ {*name}) <= 4 and abs(len(one) - len(name)) <= 2]
    near = nearest(name, candidates)
    close = near is not None and _typing_errors(name, near) <= _tolerated(near)
    hint = f"; did you mean {near}?" if near else ""
    if name.startswith(OWN):
        # Somebody may have made up such a variable by hand beside Kubernetes' of the same name.
        (findings.warnings if name.endswith("_PORT") else findings.errors).append(f"{variable} is no setting{hint}")
    elif name.startswith(SHARED):
        (findings.errors if close else findings.warnings).append(f"{variable} is no setting{hint if close else ''}")
    elif close and not name.startswith(_FOREIGN):
        findings.warnings.append(f"{variable} is no setting{hint}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name nearest to this one, None if none is near."""
    found = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return found[0] if found else None


def _tolerated(name: str) -> int:
    return 1 if len(name) < 16 else 2  # short names are near to each other by chance


def _typing_errors(one: str, other: str) -> int:
    """Return the number of letters to insert, remove, replace or swap to turn one text into the other."""
    before, last = [0] * (len(other) + 1), list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        current = [row]
        for column, wanted in enumerate(other, 1):
            cost = min(last[column] + 1, current[-1] + 1, last[column - 1] + (letter != wanted))
            swapped = row > 1 and column > 1 and (letter, one[row - 2]) == (other[column - 2], wanted)
            current.append(min(cost, before[column - 2] + 1) if swapped else cost)
        before, last = last, current
    return last[-1]
