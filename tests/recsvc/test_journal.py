import multiprocessing
import stat
from pathlib import Path

from recsvc.journal import Entry, Journal


def journal(path: Path, most_bytes: int = 2**20) -> Journal:
    return Journal(path, lambda entry: "forget" in entry, most_bytes=most_bytes)


def read(reader: Journal) -> list[Entry]:
    entries: list[Entry] = []
    reader.follow(entries.append)
    return entries


def test_every_reader_gets_every_entry_once(tmp_path: Path) -> None:
    writer, reader = (journal(tmp_path / "folder" / "j") for _ in range(2))
    assert read(reader) == []

    writer.append([{"n": 1}, {"n": 2}])
    assert [read(reader), read(reader)] == [[{"n": 1}, {"n": 2}], []]
    reader.append([{"n": 3}])
    assert read(reader) == [{"n": 3}]
    assert read(writer) == read(journal(tmp_path / "folder" / "j")) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_rewritten_journal_is_read_from_its_beginning(tmp_path: Path) -> None:
    writer, reader = (journal(tmp_path / "j") for _ in range(2))
    writer.append([{"n": 1}, {"n": 2}])
    read(reader)

    writer.rewrite(lambda entry: entry["n"] != 1, [{"n": 3}])

    assert read(reader) == [{"n": 2}, {"n": 3}]
    assert b'"n":1' not in (tmp_path / "j").read_bytes()


def test_a_reader_that_missed_several_rewrites_starts_anew(tmp_path: Path) -> None:
    """The last file may have the first one's inode."""
    writer, reader = (journal(tmp_path / "j") for _ in range(2))
    writer.append([{"n": number} for number in range(10)])
    read(reader)

    for number in range(1, 5):
        writer.rewrite(lambda entry: "n" not in entry, [{"forget": number}])

    assert read(reader) == [{"forget": number} for number in range(1, 5)]


def test_a_line_that_a_crash_cut_short_spoils_no_other(tmp_path: Path) -> None:
    writer = journal(tmp_path / "j")
    writer.append([{"n": 1}])
    with (tmp_path / "j").open("ab") as handle:
        handle.write(b'{"n":')

    writer.append([{"n": 2}])

    assert read(journal(tmp_path / "j")) == [{"n": 1}, {"n": 2}]


def test_a_full_journal_loses_old_entries_but_no_deletion(tmp_path: Path) -> None:
    writer = journal(tmp_path / "j", most_bytes=2000)
    writer.append([{"forget": "a"}])
    for number in range(500):
        writer.append([{"n": number}])

    kept = read(journal(tmp_path / "j"))

    assert (tmp_path / "j").stat().st_size <= 2000
    assert kept[0] == {"forget": "a"}
    assert kept[-1] == {"n": 499}


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    journal(tmp_path / "j").append([{"n": 1}])

    assert stat.S_IMODE((tmp_path / "j").stat().st_mode) == 0o600


def _write(path: Path, name: str) -> None:
    writer = journal(path)
    for number in range(50):
        writer.append([{"of": name, "n": number}])
        if number % 10 == 0:
            writer.rewrite(lambda _: True)


def test_looking_when_nothing_changed_reads_nothing(tmp_path: Path) -> None:
    """Every page looks: without a change, it may not even open the file."""
    writer, reader = (journal(tmp_path / "j") for _ in range(2))
    writer.append([{"n": 1}])
    read(reader)
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").unlink()

    assert read(reader) == []

    (tmp_path / "j").write_bytes(content)
    writer.append([{"n": 2}])
    assert read(reader)[-1] == {"n": 2}


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Also while each of them rewrites the file."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(tmp_path / "j", name)) for name in "abc"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0

    entries = read(journal(tmp_path / "j"))
    assert {(entry["of"], entry["n"]) for entry in entries} == {(name, n) for name in "abc" for n in range(50)}
