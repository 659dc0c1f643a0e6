"""`python -m tests.jepsen --seeds 10`: long runs of the checker."""

import argparse
import sys
import tempfile
from pathlib import Path

from servicekit.configuration.arguments import whole
from tests.consistency.cluster import running_cluster
from tests.consistency.run import run


def main() -> int:
    """Run seeds, print what each showed, and return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.jepsen", description=__doc__)
    parser.add_argument("--seeds", type=whole(1, 1_000_000), default=10, help="how many runs (default 10)")
    parser.add_argument(
        "--first", type=whole(0, 2**32 - 1), default=1, help="the first seed (default 1); a seed repeats its faults"
    )
    parser.add_argument(
        "--steps", type=whole(1, 10_000), default=8, help="faults, or pairs of them, in each run (default 8)"
    )
    parser.add_argument("--bridges", type=whole(1, 16), default=1, help="bridges that clients move between (default 1)")
    options = parser.parse_args()
    broken = 0
    with tempfile.TemporaryDirectory(prefix="jepsen-") as folder:
        Path(folder).chmod(0o755)  # Postgres may run as somebody else
        with running_cluster(Path(folder), bridges=options.bridges) as cluster:
            if not cluster.disk.small:
                sys.stdout.write("no file system may be mounted here: the disk is never full\n")
            for seed in range(options.first, options.first + options.seeds):
                sys.stdout.write(f"seed {seed}\n")
                result = run(cluster, seed, steps=options.steps, loud=True)
                broken += not result.verdict.valid
                sys.stdout.write(
                    f"  {'valid' if result.verdict.valid else 'BROKEN'}: {result.acknowledged} acknowledged,"
                    f" {result.refused} refused, {result.duplicates} repeated in Kafka,"
                    f" {result.swallowed} acknowledgements swallowed, {result.clipped} replies clipped,"
                    f" {result.overtaken} overtaken where a client moved, {result.seconds:.0f} s\n"
                )
                if not result.verdict.valid:
                    sys.stdout.write(f"  {result.verdict}\n"[:2000])
                sys.stdout.flush()
    sys.stdout.write(f"{options.seeds - broken} of {options.seeds} runs are valid\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
