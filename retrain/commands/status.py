"""Formats the last runs for people."""

from collections.abc import Sequence
from datetime import datetime

from retrain.run_log.row import RunRow, State


def status_table(rows: Sequence[RunRow], now: datetime) -> str:
    """Return the runs as lines, in the order given."""
    if not rows:
        return "No run is known."
    lines: list[tuple[str, ...]] = [("started (UTC)", "day", "state", "took", "interactions", "NDCG@20", "")]
    lines += [_cells(row, now) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=True)), line[-1]]).rstrip()
        for line in lines
    )


def _cells(row: RunRow, now: datetime) -> tuple[str, ...]:
    took = ((row.ended_at or now) - row.started_at).total_seconds()
    ndcg = row.quality.get("lightfm_prior.ndcg@20")
    silent = (now - row.heartbeat_at).total_seconds()
    end = f"{row.reason}: {row.message}" if row.reason else row.version or ""
    if row.state is State.RUNNING:
        end = f"last sign of life {silent:.0f} s ago"
    return (
        f"{row.started_at:%Y-%m-%d %H:%M:%S}",
        str(row.run_date or ""),
        str(row.state),
        f"{took:.1f} s",
        f"{row.interactions:,}" if row.interactions is not None else "",
        f"{ndcg:.4f}" if ndcg is not None else "",
        end,
    )
