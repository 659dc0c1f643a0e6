"""Defines public layouts of rating and interaction data, in SQL, as rows that an import can judge.

A layout's `rows` give `user_id`, `video_id`, `kind` (null where a rating says it), `value` (a rating), `watch_ms` and
`happened_at`, all text; its `catalogue`, where there is one, the columns of `videos.parquet`.
"""

import csv
import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from retrain.data.input_views import CsvFiles, ParquetFile
from retrain.errors import Reason, RunError

KINDS: Final = ("is_like", "is_follow", "is_comment", "is_forward", "is_hate")
"""Flags of KuaiRand, each an interaction of its own."""
_KINDS: Final = {
    "user_id": "key",
    "video_id": "key",
    "happened_at": "moment",
    "kind": "key",
    "value": "number",
    "watch_ms": "number",
}
"""How the columns of a file of parquet are read."""
_LOG: Final = ("user_id", "video_id", "time_ms", "is_click", *KINDS, "play_time_ms")
_FEATURES: Final = ("video_id", "author_id", "upload_dt", "video_duration", "tag")
_RATINGS: Final = ("userId", "movieId", "rating", "timestamp")
_MOVIES: Final = ("movieId", "title", "genres")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """A published layout of data."""

    name: str
    inputs: Mapping[str, CsvFiles | ParquetFile]
    """The files by the names that the queries call them by: the first ones hold what people did."""
    rows: str
    """A query."""
    catalogue: str | None = None
    """A query."""
    is_rated: bool = False
    """Whether ratings, rather than kinds, say what was liked."""

    @property
    def files(self) -> list[Path]:
        """Return all files."""
        return [
            path for one in self.inputs.values() for path in (one.paths if isinstance(one, CsvFiles) else (one.path,))
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """The columns of a plain CSV file; None for a missing one."""

    user: str
    item: str
    time: str
    kind: str | None = None
    value: str | None = None
    watch_time: str | None = None


def find_layout(path: Path) -> Layout | None:
    """Return the layout of a folder by the names of its files, None if it is unknown."""
    if ratings := _find(path, r"ratings\.dat"):
        return _movie_tweetings(ratings[0], _find(path, r"movies\.dat"))
    if ratings := _find(path, r"ratings\.csv.*"):
        return _movie_lens(ratings[0], _find(path, r"movies\.csv.*"))
    if logs := _find(path, r"log_standard.*\.csv.*"):
        return _kuairand(logs, _find(path, r"video_features_basic.*\.csv.*"))
    return None


def plain_file(path: Path, columns: Columns, delimiter: str, *, kinds: Mapping[str, str], kind: str) -> Layout:
    """Return the layout of a CSV file with a header row, or of a parquet file; RunError when it lacks a column.

    Args:
        path: The file.
        columns: Which of its columns are meant.
        delimiter: What stands between two columns of CSV.
        kinds: This project's names of the file's kinds, where they differ.
        kind: What every row is in a file that has neither kinds nor values.
    """
    parts = {
        "user_id": columns.user,
        "video_id": columns.item,
        "happened_at": columns.time,
        "kind": columns.kind,
        "value": columns.value,
        "watch_ms": columns.watch_time,
    }
    told = {part: _column(name) if name else "NULL::VARCHAR" for part, name in parts.items()}
    told["kind"] = _renamed(told["kind"], kinds) if columns.kind else _text(kind)
    listed = ", ".join(f"{expression} AS {part}" for part, expression in told.items())
    found: CsvFiles | ParquetFile
    if is_parquet(path):
        name = "parquet"
        found = ParquetFile(path=path, columns={held: _KINDS[part] for part, held in parts.items() if held})
    else:
        name = "CSV"
        found = _csv((path,), [held for held in parts.values() if held], delimiter)
    is_rated = bool(columns.value and not columns.kind)
    return Layout(name=name, inputs={"plain": found}, rows=f"SELECT {listed} FROM plain", is_rated=is_rated)


def is_parquet(path: Path) -> bool:
    """Return whether a file begins as parquet files do."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _movie_tweetings(ratings: Path, movies: Sequence[Path]) -> Layout:
    """Return the layout of `user::film::rating::seconds`, and `film::title (year)::genre|genre`."""
    inputs = {"ratings": _headless(ratings, ("user_id", "video_id", "value", "happened_at"))}
    if movies:
        inputs["movies"] = _headless(movies[0], _MOVIES)
    return Layout(
        name="MovieTweetings or MovieLens 1M and 10M",
        inputs=inputs,
        rows="SELECT user_id, video_id, NULL::VARCHAR AS kind, value, NULL::VARCHAR AS watch_ms, happened_at "
        "FROM ratings",
        catalogue=_films("movies") if movies else None,
        is_rated=True,
    )


def _movie_lens(ratings: Path, movies: Sequence[Path]) -> Layout:
    inputs = {"ratings": _csv((ratings,), _RATINGS, ",")}
    if movies:
        inputs["movies"] = _csv(movies[:1], _MOVIES, ",")
    rows = (
        'SELECT "userId" AS user_id, "movieId" AS video_id, NULL::VARCHAR AS kind, "rating" AS value, '
        'NULL::VARCHAR AS watch_ms, "timestamp" AS happened_at FROM ratings'
    )
    catalogue = _films("movies") if movies else None
    return Layout(name="MovieLens", inputs=inputs, rows=rows, catalogue=catalogue, is_rated=True)


def _films(source: str) -> str:
    """Return the catalogue of films: genres are tags, and the year in the title is the date of publication."""
    return f"""SELECT
    "movieId" AS "videoId", NULL::VARCHAR AS "authorId",
    list_filter(string_split(coalesce("genres", ''), '|'), lambda tag: tag NOT IN ('', '(no genres listed)')) AS "tags",
    NULL::BIGINT AS "durationMs",
    nullif(regexp_extract("title", '\\((\\d{{4}})\\)\\s*$', 1), '') || '-01-01' AS "uploadDate"
FROM {source}"""


def _kuairand(logs: Sequence[Path], features: Sequence[Path]) -> Layout:
    """Return the layout of an exposure a line: a watch if clicked, else an impression; each flag adds an interaction.

    Flags carry no time of their own: they are dated to the end of the exposure.
    """
    kinds = "CASE WHEN is_click = '1' THEN 'watch' ELSE 'impression' END" + "".join(
        f", CASE WHEN {flag} = '1' THEN '{kind}' END"
        for flag, kind in zip(KINDS, ("like", "follow", "comment", "share", "hide"), strict=True)
    )
    rows = f"""SELECT
    'u' || user_id AS user_id, 'v' || video_id AS video_id, kind, NULL::VARCHAR AS value,
    CASE WHEN kind IN ('watch', 'impression') THEN play_time_ms END AS watch_ms,
    CASE WHEN kind IN ('watch', 'impression') THEN time_ms
        ELSE (whole(try_cast(time_ms AS DOUBLE))::HUGEINT
            + coalesce(whole(try_cast(play_time_ms AS DOUBLE)), 0))::VARCHAR END AS happened_at
FROM (SELECT *, unnest([{kinds}]) AS kind FROM logs)
WHERE kind IS NOT NULL"""
    inputs = {"logs": _csv(logs, _LOG, ",")}
    if features:
        inputs["features"] = _csv(features[:1], _FEATURES, ",")
    return Layout(name="KuaiRand", inputs=inputs, rows=rows, catalogue=_VIDEOS if features else None)


_VIDEOS: Final = """SELECT
    'v' || video_id AS "videoId", 'a' || author_id AS "authorId",
    list_transform(
        list_filter(string_split(coalesce(tag, ''), ','), lambda one: one <> ''), lambda one: 't' || one
    ) AS "tags",
    whole(try_cast(video_duration AS DOUBLE)) AS "durationMs", upload_dt AS "uploadDate"
FROM features"""


def _find(folder: Path, name: str) -> list[Path]:
    """Return the matching files of a folder, or of its first subfolder that has any."""
    pattern = re.compile(name)
    here = sorted(path for path in folder.glob("*") if pattern.fullmatch(path.name))
    return here or sorted(path for path in folder.glob("*/*") if pattern.fullmatch(path.name))


def _csv(files: Sequence[Path], needed: Sequence[str], delimiter: str) -> CsvFiles:
    """Return files with a header row; RunError when one lacks a column."""
    heads = [_head(file, delimiter) for file in files]
    for file, head in zip(files, heads, strict=True):
        missing = next((name for name in needed if name not in head), None)
        if missing:
            raise RunError(Reason.SCHEMA, f"{file.name}: column {missing!r} is missing, it has {', '.join(head)}")
        if head != heads[0]:
            raise RunError(Reason.SCHEMA, f"{file.name}: its columns are not those of {files[0].name}")
    zipped = {_is_zipped(file) for file in files}
    if len(zipped) > 1:
        raise RunError(Reason.SCHEMA, f"{files[0].name}: some files beside it are compressed, some are not")
    return CsvFiles(
        paths=tuple(files),
        names=tuple(heads[0]),
        needed=tuple(needed),
        delimiter=delimiter,
        compressed=zipped.pop(),
    )


def _is_zipped(file: Path) -> bool:
    return file.suffix == ".gz"


def _headless(file: Path, names: Sequence[str]) -> CsvFiles:
    try:
        with file.open(encoding="utf-8") as lines:
            for _ in lines:
                pass
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "latin-1"  # as MovieLens 1M is
    return CsvFiles(
        paths=(file,),
        names=tuple(names),
        needed=tuple(names),
        delimiter="::",
        quote="",
        header=False,
        encoding=encoding,
    )


def _head(file: Path, delimiter: str) -> list[str]:
    opened = gzip.open if _is_zipped(file) else open
    try:
        with opened(file, "rt", encoding="utf-8-sig", errors="surrogateescape") as lines:
            head = next(csv.reader(cast(Iterable[str], lines), delimiter=delimiter), [])
        "".join(head).encode()
    except (UnicodeError, OSError, EOFError, csv.Error) as error:
        raise RunError(Reason.SCHEMA, f"{file.name} is not a text file: {error}") from None
    if len(set(head)) < len(head) or "" in head:
        raise RunError(Reason.SCHEMA, f"{file.name}: names of columns are empty or repeated: {', '.join(head)}")
    return head


def _column(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _renamed(kind: str, names: Mapping[str, str]) -> str:
    cases = "".join(f" WHEN {_text(theirs)} THEN {_text(ours)}" for theirs, ours in names.items())
    return f"CASE {kind}{cases} ELSE {kind} END" if cases else kind
