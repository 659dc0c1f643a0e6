"""Places that may do what a rule of `test_code_rules` forbids, and why: `package/file.py:function`."""

from collections.abc import Mapping
from typing import Final

COMPUTED: Final = "a number that was computed here"
OWN_PROCESS: Final = "said by a process that this one started"
OF_A_MODEL: Final = "a number of a model that was admitted, whose numbers are finite"

FLOATS: Final[Mapping[str, str]] = {
    "benchmarks/retrain/scale.py:_growth": COMPUTED,
    "benchmarks/retrain/warm.py:_row": COMPUTED,
    "bridge/kafka/message.py:read_interaction": "to be read by JsonObject",
    "bridge/kafka/message.py:read_recommendation": "to be read by read_number",
    "recsvc/rollout/acceptance_checks.py:<module>": "a constant of numpy",
    "recsvc/model/fold_in.py:scale_of": COMPUTED,
    "recsvc/users/kafka_message.py:parse": "to be read by JsonObject",
    "recsvc/ranking/exact.py:<module>": "a constant of numpy",
    "recsvc/pages/explanations.py:Reasons._shares": OF_A_MODEL,
    "recsvc/pages/explanations.py:Reasons._similar": COMPUTED,
    "recsvc/model/serving_model.py:ServingModel.of": OF_A_MODEL,
    "recsvc/domain/user.py:user_at": OF_A_MODEL,
    "retrain/evaluation/confidence.py:interval": COMPUTED,
    "retrain/evaluation/held_out_day.py:Evaluation.metrics": COMPUTED,
    "retrain/evaluation/held_out_day.py:_part_metrics": COMPUTED,
    "retrain/report/html.py:_days": "a count of rows",
    "retrain/embeddings.py:Representations.expand": COMPUTED,
    "retrain/run_log/notify.py:tell": "a bool",
    "retrain/gates/smoke_test.py:SmokeServer.test": COMPUTED,
    "servicekit/inputs/numbers.py:finite": "the reader itself",
    "servicekit/inputs/numbers.py:read_number": "the reader itself",
}
JSON: Final[Mapping[str, str]] = {
    "benchmarks/feed/fault_proxy.py:serve": OWN_PROCESS,
    "benchmarks/retrain/scale.py:_child": OWN_PROCESS,
    "bridge/ingest/feedback.py:read_feedback": "to be read by JsonObject",
    "bridge/kafka/message.py:read_interaction": "to be read by JsonObject",
    "bridge/trending/snapshot.py:load_snapshot": "the bridge's own file, with a checksum; to be read by JsonObject",
    "deploy/prepare.py:_live_version": "the pointer of the local store, which `retrain` wrote",
    "deploy/state.py:State.port": "its own file; what is no JSON counts as none",
    "modelstore/erased_users.py:Forgotten._read": "to be read by JsonObject",
    "recsvc/users/kafka_message.py:parse": "to be read by JsonObject",
    "recsvc/profile_log/log.py:_parse": "to be read by JsonObject",
    "retrain/data/erased_users.py:decode": "to be read by JsonObject",
    "retrain/importers/lightfm_pickle.py:read_ids": "a list of millions; each identifier is checked",
    "servicekit/inputs/json_fields.py:JsonObject.__init__": "the reader itself",
}
ENDS_WITH_ITS_CALL: Final = "it ends, and whoever began it waits for that"
TO_BE_RUN: Final = "to be run by a shared runner"
THE_RUNNER: Final = "the runner itself"
THREADS: Final[Mapping[str, str]] = {
    "benchmarks/faults.py:_start": ENDS_WITH_ITS_CALL,
    "benchmarks/model_swap.py:_swapping": ENDS_WITH_ITS_CALL,
    "bridge/producer.py:Producer.__init__": TO_BE_RUN,
    "bridge/segment_sender.py:SegmentSender.__init__": TO_BE_RUN,
    "recsvc/prepare.py:main": "its one line ends the process",
    "recsvc/supervisor_link.py:SupervisorLink.watch": "it waits once for the supervisor's end",
    "retrain/lock.py:PostgresLock.__init__": TO_BE_RUN,
    "servicekit/bulkhead.py:Bulkhead.__init__": TO_BE_RUN,
    "servicekit/completions.py:Completions.__init__": TO_BE_RUN,
    "servicekit/dogstatsd.py:DogStatsd.__init__": TO_BE_RUN,
    "servicekit/grpc_server.py:ThreadServer.__init__": TO_BE_RUN,
    "servicekit/line_writer.py:LineWriter.__init__": TO_BE_RUN,
    "servicekit/periodic_thread.py:PeriodicThread.__init__": THE_RUNNER,
    "servicekit/renewal.py:Renewals.__init__": TO_BE_RUN,
    "servicekit/server_identity.py:ServerIdentity.begin": TO_BE_RUN,
    "servicekit/termination.py:thread_termination": "it waits once for a signal",
}
FOR_A_MEASUREMENT: Final = "cancelled when the measurement is over; an error ends the benchmark"
LOOPS: Final[Mapping[str, str]] = {
    "benchmarks/feed/hedging.py:_hang_now_and_then": FOR_A_MEASUREMENT,
    "benchmarks/feed/hedging.py:_slow_now_and_then": FOR_A_MEASUREMENT,
    "benchmarks/ingestion/stream_client.py:Firehose._watch": FOR_A_MEASUREMENT,
    "bridge/background/supervision.py:_keep_running": "the runner itself",
    "deploy/kafka_mock.py:main": "it waits for the signal that ends the process",
}
PATTERNS: Final[Mapping[str, str]] = {
    "retrain/importers/layouts.py:_find": "its callers name files of known layouts, which they write out",
}
CERTIFICATES: Final[Mapping[str, str]] = {
    "servicekit/credentials/tls_files.py:TlsFiles._configuration": "the reader itself",
    "servicekit/credentials/tls_files.py:TlsFiles.channel": "to be renewed while the program runs",
    "servicekit/credentials/tls_files.py:TlsFiles.server": "the reader itself",
}
A_WORD: Final = "compared with one word"
VARIABLES: Final[Mapping[str, str]] = {
    "benchmarks/knob.py:number": "the reader itself",
    "benchmarks/knob.py:wholes": "the reader itself",
    "benchmarks/recsvc/scale.py:<module>": "pairs of numbers, which `whole` reads",
    "benchmarks/retrain/nightly.py:<module>": A_WORD,
    "benchmarks/retrain/quality.py:<module>": A_WORD,
    "benchmarks/retrain/scale.py:<module>": "lists of numbers, which `read_number` reads",
    "deploy/__main__.py:main": "addresses that `check_address` looks at, and the programs again",
    "deploy/kafka_jars.py:_cache": "XDG_CACHE_HOME is the desktop's",
    "deploy/probe.py:main": "three files, which a probe reads once",
    "recsvc/rollout/prepare.py:main": "the parent has checked it",
    "recsvc/workers/supervisor_link.py:SupervisorLink.inherited": "from the supervisor",
    "retrain/gates/smoke_test.py:_environment": "handed on to a server",
    "servicekit/configuration/settings.py:_read_file": "the reader itself",
    "servicekit/configuration/settings.py:_rename": "the reader itself",
    "servicekit/configuration/settings.py:refuse_unknown_settings": "the reader itself",
}
