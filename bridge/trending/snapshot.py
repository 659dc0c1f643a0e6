"""The last good trending ranking on disk, so that a start without Postgres still serves."""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bridge.domain.page import RankedVideo
from bridge.trending.ranking import Trending, TrendingVideo
from servicekit.files.replacement import PRIVATE, write_whole

FORMAT: Final = 2


def save_snapshot(path: Path, trending: Trending) -> None:
    """Replace the snapshot as a whole; OSError when the folder cannot be written to."""
    videos = [_row(video) for video in trending.videos]
    scores = {surface: dict(own) for surface, own in trending.surface_scores.items()}
    content = {"computed_at": trending.computed_at.isoformat(), "videos": videos, "surface_scores": scores}
    body = json.dumps(content, ensure_ascii=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"format": FORMAT, "sha256": _checksum(body), "body": body}), mode=PRIVATE)


def load_snapshot(path: Path) -> Trending:
    """Return the snapshot; OSError when there is none, ValueError when it is not what was saved."""
    try:
        outer: Any = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    if not isinstance(outer, dict) or outer.get("format") != FORMAT or not isinstance(outer.get("body"), str):
        raise ValueError("it is not a trending snapshot")
    if outer.get("sha256") != _checksum(outer["body"]):
        raise ValueError("its checksum is wrong")
    inner = json.loads(outer["body"])
    videos = [_video(row) for row in inner["videos"]]
    return Trending(datetime.fromisoformat(inner["computed_at"]), videos, inner["surface_scores"])


def _row(video: TrendingVideo) -> tuple[object, ...]:
    ranked = video.ranked
    return ranked.video_id, ranked.score, video.author_id, video.tags, video.duration_ms, video.published_at_us


def _video(row: list[Any]) -> TrendingVideo:
    video_id, score, author_id, tags, duration_ms, published_at_us = row
    return TrendingVideo(
        ranked=RankedVideo(video_id, score),
        author_id=author_id,
        tags=tuple(tags),
        duration_ms=duration_ms,
        published_at_us=published_at_us,
    )


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()
