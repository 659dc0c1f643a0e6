"""Places that may do what a rule of `test_code_rules` forbids, and why: `package/file.py:function`."""

from collections.abc import Mapping
from typing import Final

COMPUTED: Final = "a number that was computed here"
OWN_PROCESS: Final = "said by a process that this one started"
OF_A_MODEL: Final = "a number of a model that was admitted, whose numbers are finite"

FLOATS: Final[Mapping[str, str]] = {
    "benchmarks/retrain_scale.py:_growth": COMPUTED,
    "benchmarks/retrain_warm.py:_row": COMPUTED,
    "bridge/message.py:read_interaction": "to be read by JsonObject",
    "bridge/message.py:read_recommendation": "to be read by read_number",
    "recsvc/admission.py:<module>": "a constant of numpy",
    "recsvc/fold_in.py:scale_of": COMPUTED,
    "recsvc/interaction_message.py:parse": "to be read by JsonObject",
    "recsvc/ranking.py:<module>": "a constant of numpy",
    "recsvc/reasons.py:Reasons._shares": OF_A_MODEL,
    "recsvc/reasons.py:Reasons._similar": COMPUTED,
    "recsvc/serving_model.py:ServingModel.of": OF_A_MODEL,
    "recsvc/viewers.py:viewer_at": OF_A_MODEL,
    "retrain/bootstrap.py:interval": COMPUTED,
    "retrain/evaluation.py:Evaluation.metrics": COMPUTED,
    "retrain/evaluation.py:_part_metrics": COMPUTED,
    "retrain/html_report.py:_days": "a count of rows",
    "retrain/representations.py:Representations.expand": COMPUTED,
    "retrain/run_log.py:tell": "a bool",
    "retrain/smoke.py:SmokeServer.test": COMPUTED,
    "servicekit/numbers.py:finite": "the reader itself",
    "servicekit/numbers.py:read_number": "the reader itself",
}
JSON: Final[Mapping[str, str]] = {
    "benchmarks/fault_proxy.py:serve": OWN_PROCESS,
    "benchmarks/retrain_scale.py:_child": OWN_PROCESS,
    "bridge/feedback.py:read_feedback": "to be read by JsonObject",
    "bridge/message.py:read_interaction": "to be read by JsonObject",
    "bridge/trending_snapshot.py:load_snapshot": "the bridge's own file, with a checksum; to be read by JsonObject",
    "deploy/prepare.py:_live_version": "the pointer of the local store, which `retrain` wrote",
    "deploy/state.py:State.port": "its own file; what is no JSON counts as none",
    "recsvc/forgotten.py:Forgotten._read": "to be read by JsonObject",
    "recsvc/interaction_message.py:parse": "to be read by JsonObject",
    "recsvc/journal.py:_parse": "to be read by JsonObject",
    "retrain/erasures.py:decode": "to be read by JsonObject",
    "retrain/lightfm_bundle.py:read_ids": "a list of millions; each identifier is checked",
    "servicekit/json_fields.py:JsonObject.__init__": "the reader itself",
}
ENDS_WITH_ITS_CALL: Final = "it ends, and whoever began it waits for that"
TO_BE_RUN: Final = "to be run by a shared runner"
THREADS: Final[Mapping[str, str]] = {
    "benchmarks/feed_faults.py:_start": ENDS_WITH_ITS_CALL,
    "benchmarks/model_swap.py:_swapping": ENDS_WITH_ITS_CALL,
    "bridge/producer.py:Producer.__init__": TO_BE_RUN,
    "bridge/segment.py:SegmentSender.__init__": TO_BE_RUN,
    "recsvc/forgotten.py:Forgotten.begin": TO_BE_RUN,
    "recsvc/freshness.py:Freshness.__init__": TO_BE_RUN,
    "recsvc/live_interactions.py:LiveInteractions.__init__": TO_BE_RUN,
    "recsvc/precomputation.py:Precomputation.__init__": TO_BE_RUN,
    "recsvc/prepare.py:main": "its one line ends the process",
    "recsvc/supervisor_link.py:SupervisorLink.watch": "it waits once for the supervisor's end",
    "recsvc/watcher.py:ModelWatcher.__init__": TO_BE_RUN,
    "retrain/attempt.py:_Heart.__init__": TO_BE_RUN,
    "servicekit/termination.py:thread_termination": "it waits once for a signal",
    "servicekit/unary_calls.py:UnaryCalls.__init__": TO_BE_RUN,
}
FOR_A_MEASUREMENT: Final = "cancelled when the measurement is over; an error ends the benchmark"
LOOPS: Final[Mapping[str, str]] = {
    "benchmarks/feed_hedging.py:_hang_now_and_then": FOR_A_MEASUREMENT,
    "benchmarks/feed_hedging.py:_slow_now_and_then": FOR_A_MEASUREMENT,
    "benchmarks/firehose.py:Firehose._watch": FOR_A_MEASUREMENT,
    "bridge/background.py:_keep_running": "the runner itself",
    "deploy/kafka_mock.py:main": "it waits for the signal that ends the process",
}
PATTERNS: Final[Mapping[str, str]] = {
    "retrain/layouts.py:_find": "its callers name files of known layouts, which they write out",
}
CERTIFICATES: Final[Mapping[str, str]] = {
    "servicekit/credentials.py:TlsFiles._configuration": "the reader itself",
    "servicekit/credentials.py:TlsFiles.channel": "to be renewed while the program runs",
    "servicekit/credentials.py:TlsFiles.server": "the reader itself",
}
A_WORD: Final = "compared with one word"
VARIABLES: Final[Mapping[str, str]] = {
    "benchmarks/knob.py:number": "the reader itself",
    "benchmarks/knob.py:wholes": "the reader itself",
    "benchmarks/recsvc_scale.py:<module>": "pairs of numbers, which `whole` reads",
    "benchmarks/retrain_nightly.py:<module>": A_WORD,
    "benchmarks/retrain_quality.py:<module>": A_WORD,
    "benchmarks/retrain_scale.py:<module>": "lists of numbers, which `read_number` reads",
    "deploy/__main__.py:main": "addresses that `check_address` looks at, and the programs again",
    "deploy/kafka_jars.py:_cache": "XDG_CACHE_HOME is the desktop's",
    "deploy/probe.py:main": "three files, which a probe reads once",
    "recsvc/prepare.py:main": "the parent has checked it",
    "recsvc/supervisor_link.py:SupervisorLink.inherited": "from the supervisor",
    "retrain/smoke.py:_environment": "handed on to a server",
    "servicekit/settings.py:_read_file": "the reader itself",
    "servicekit/settings.py:_rename": "the reader itself",
    "servicekit/settings.py:refuse_unknown_settings": "the reader itself",
}
