"""Places that may do what a rule of `test_code_rules` forbids, and why: `package/folder/file.py:function`."""

from collections.abc import Mapping
from typing import Final

COMPUTED: Final = "a number that was computed here"
OWN_PROCESS: Final = "said by a process that this one started"
OF_A_MODEL: Final = "a number of a model that was admitted, whose numbers are finite"

FLOATS: Final[Mapping[str, str]] = {
    "benchmarks/retrain/scale.py:_growth": COMPUTED,
    "benchmarks/retrain/warm.py:_row": COMPUTED,
    "recsvc/model/fold_in.py:scale_of": COMPUTED,
    "recsvc/ranking/exact.py:<module>": "a constant of numpy",
    "recsvc/pages/explanations.py:Reasons._shares": OF_A_MODEL,
    "recsvc/pages/explanations.py:Reasons._similar": COMPUTED,
    "recsvc/model/serving_model.py:ServingModel.of": OF_A_MODEL,
    "recsvc/domain/user.py:user_at": OF_A_MODEL,
    "retrain/evaluation/confidence.py:interval": COMPUTED,
    "retrain/evaluation/held_out_day.py:Evaluation.metrics": COMPUTED,
    "retrain/evaluation/held_out_day.py:_part_metrics": COMPUTED,
    "retrain/report/html.py:_days": "a count of rows",
    "retrain/embeddings.py:Embeddings.expand": COMPUTED,
    "retrain/run_log/notify.py:tell": "a bool",
    "retrain/gates/smoke_test.py:SmokeServer.test": COMPUTED,
    "servicekit/inputs/numbers.py:finite": "the reader itself",
    "servicekit/inputs/numbers.py:read_number": "the reader itself",
    "modelstore/soundness.py:<module>": "a constant of numpy",
    "benchmarks/open_loop.py:arrivals": COMPUTED,
}
JSON: Final[Mapping[str, str]] = {
    "benchmarks/feed/fault_proxy.py:serve": OWN_PROCESS,
    "benchmarks/retrain/scale.py:_child": OWN_PROCESS,
    "bridge/trending/snapshot.py:load_snapshot": "the bridge's own file, with a checksum; to be read by JsonObject",
    "deploy/local/first_model.py:_live_version": "the pointer of the local store, which `retrain` wrote",
    "deploy/local/run_folder.py:State.port": "its own file; what is no JSON counts as none",
    "retrain/importers/lightfm_pickle.py:read_ids": "a list of millions; each identifier is checked",
    "servicekit/inputs/json_fields.py:<module>": "the reader itself",
    "bridge/authentication/user_token.py:_verified": "signed by the issuer; whatever it raises is a refusal",
}
ENDS_WITH_ITS_CALL: Final = "it ends, and whoever began it waits for that"
TO_BE_RUN: Final = "to be run by a shared runner"
THE_RUNNER: Final = "the runner itself"
THREADS: Final[Mapping[str, str]] = {
    "benchmarks/feed/faults.py:_start": ENDS_WITH_ITS_CALL,
    "benchmarks/recsvc/model_swap.py:_swapping": ENDS_WITH_ITS_CALL,
    "bridge/kafka/producer.py:Producer.__init__": TO_BE_RUN,
    "bridge/analytics/segment_sender.py:SegmentSender.__init__": TO_BE_RUN,
    "recsvc/rollout/prepare.py:main": "its one line ends the process",
    "recsvc/snapshots/child.py:main": "its one line ends the process",
    "recsvc/workers/supervisor_link.py:SupervisorLink.watch": "it waits once for the supervisor's end",
    "servicekit/process/termination.py:thread_termination": "it waits once for a signal",
    "retrain/scheduling/lock.py:PostgresLock.__init__": "its errors are what it tells",
    "servicekit/credentials/renewal.py:Renewals.__init__": TO_BE_RUN,
    "servicekit/credentials/server_identity.py:ServerIdentity.begin": TO_BE_RUN,
    "servicekit/grpc_core/bulkhead.py:Bulkhead.__init__": "a runner itself: an error of a call is logged",
    "servicekit/grpc_core/completions.py:Completions.__init__": "a runner itself: an error of an event is logged",
    "servicekit/server/thread_server.py:ThreadServer.__init__": ENDS_WITH_ITS_CALL,
    "servicekit/telemetry/dogstatsd.py:DogStatsd.__init__": "below what a shared runner would log to",
    "servicekit/telemetry/line_writer.py:LineWriter.__init__": "below what a shared runner would log to",
    "servicekit/process/periodic_thread.py:PeriodicThread.__init__": THE_RUNNER,
}
FOR_A_MEASUREMENT: Final = "cancelled when the measurement is over; an error ends the benchmark"
LOOPS: Final[Mapping[str, str]] = {
    "benchmarks/feed/hedging.py:_hang_now_and_then": FOR_A_MEASUREMENT,
    "benchmarks/feed/hedging.py:_slow_now_and_then": FOR_A_MEASUREMENT,
    "benchmarks/ingestion/stream_client.py:Firehose._watch": FOR_A_MEASUREMENT,
    "bridge/background/supervision.py:_keep_running": "the runner itself",
    "deploy/local/kafka/mock.py:main": "it waits for the signal that ends the process",
    "benchmarks/open_loop.py:arrivals": FOR_A_MEASUREMENT,
    "bridge/postgres/schema_keeper.py:SchemaKeeper.keep": "run by `background`, through the pool",
    "servicekit/grpc/open_streams.py:OpenStreams._look": "it only reads a clock and ends streams",
    "servicekit/grpc_core/bulkhead.py:Bulkhead._run": "a runner itself",
    "servicekit/telemetry/line_writer.py:LineWriter._run": "below what a shared runner would log to",
}
PATTERNS: Final[Mapping[str, str]] = {}
CERTIFICATES: Final[Mapping[str, str]] = {
    "servicekit/credentials/tls_files.py:TlsFiles.channel": "to be renewed while the program runs",
    "servicekit/credentials/client_identity.py:TlsIdentity.channel": "from contents that `renewal` has read",
    "servicekit/credentials/pinned_handshake.py:_shown": "from contents that `server_identity` has read",
    "servicekit/credentials/server_identity.py:Pem.read": "the reader itself",
    "servicekit/credentials/server_identity.py:Pem.configuration": "the reader itself",
    "servicekit/credentials/server_identity.py:Pem.certificate": "the reader itself",
    "servicekit/credentials/server_identity.py:ServerIdentity.__init__": "the reader itself",
    "servicekit/credentials/server_identity.py:ServerIdentity._problem": "the reader itself",
}
A_WORD: Final = "compared with one word"
VARIABLES: Final[Mapping[str, str]] = {
    "benchmarks/knob.py:number": "the reader itself",
    "benchmarks/knob.py:wholes": "the reader itself",
    "benchmarks/recsvc/scale.py:<module>": "pairs of numbers, which `whole` reads",
    "benchmarks/retrain/nightly.py:<module>": A_WORD,
    "benchmarks/retrain/quality.py:<module>": A_WORD,
    "benchmarks/retrain/scale.py:<module>": "lists of numbers, which `read_number` reads",
    "deploy/local/__main__.py:main": "addresses that `check_address` looks at, and the programs again",
    "deploy/local/kafka/jars.py:_cache": "XDG_CACHE_HOME is the desktop's",
    "deploy/probe.py:main": "three files, which a probe reads once",
    "recsvc/rollout/prepare.py:main": "the parent has checked it",
    "recsvc/workers/supervisor_link.py:SupervisorLink.inherited": "from the supervisor",
    "recsvc/follower/__main__.py:main": "from the supervisor",
    "retrain/gates/smoke_test.py:_environment": "handed on to a server",
    "servicekit/configuration/settings.py:_read_file": "the reader itself",
    "servicekit/configuration/settings.py:_rename": "the reader itself",
    "servicekit/configuration/settings.py:refuse_unknown_settings": "the reader itself",
    "benchmarks/feed/event_loop.py:_bridge": "a folder beside",
    "benchmarks/recsvc/live_pages.py:run": "a folder beside",
    "benchmarks/feed/slowed_recsvc.py:<module>": "from the benchmark that starts it",
    "servicekit/configuration/settings.py:secret_file": "the reader itself",
    "servicekit/telemetry/dogstatsd.py:global_tags": "Datadog's own",
    "servicekit/telemetry/logs.py:service_name": "Datadog's own",
}
