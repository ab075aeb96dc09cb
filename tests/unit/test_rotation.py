"""Logs of the stack's processes: nothing is lost at a turn, nothing grows for ever."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.cli.logs import LogTail
from deploy.local.rotation import RotatingLog, last_lines, older_log


def test_a_full_log_is_put_aside_and_the_oldest_one_dropped(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "writer.log", limit_bytes=10, kept=2)
    for chunk in (b"one\n" * 2, b"two\n" * 2, b"three\n", b"four\n", b"five\n"):
        log.write(chunk)
    log.close()
    assert (tmp_path / "writer.log").read_bytes() == b"four\nfive\n"
    assert older_log(tmp_path / "writer.log", 1).read_bytes() == b"three\n"
    assert older_log(tmp_path / "writer.log", 2).read_bytes() == b"two\ntwo\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["writer.log", "writer.log.1", "writer.log.2"]


def test_a_log_goes_on_where_an_earlier_run_left_it(tmp_path: Path) -> None:
    for text in (b"first run\n", b"second run\n"):
        log = RotatingLog(tmp_path / "api.log")
        log.write(text)
        log.close()
    assert last_lines(tmp_path / "api.log", 5) == ["first run", "second run"]


def test_there_are_no_last_lines_of_a_log_that_is_not_there(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "nothing.log", 5) == []


def test_last_lines_may_begin_at_a_place_unless_the_log_was_turned_since(tmp_path: Path) -> None:
    path = tmp_path / "writer.log"
    path.write_text("of an earlier life\n")
    since = path.stat().st_size
    assert last_lines(path, 5, since_bytes=since) == []
    with path.open("a") as log:
        log.write("of this life\n")
    assert last_lines(path, 5, since_bytes=since) == ["of this life"]
    path.write_text("turned\n")
    assert last_lines(path, 5, since_bytes=since) == ["turned"]


def test_last_lines_of_a_long_log_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "long.log"
    path.write_text("".join(f"line {number}\n" for number in range(20_000)))
    assert last_lines(path, 2, read_bytes=100) == ["line 19998", "line 19999"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.text(alphabet="ab", max_size=6), min_size=1, max_size=3), max_size=30))
def test_following_a_log_shows_every_line_once_across_turns(batches: list[list[str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.log"
        log = RotatingLog(path, limit_bytes=20, kept=3)
        tail = LogTail(path)
        seen: list[str] = []
        for batch in batches:
            # One write a batch turns the log at most once, as it does between two looks of a follower.
            log.write("".join(f"{line}\n" for line in batch).encode())
            seen += tail.new_lines()
        log.close()
    assert seen == [line for batch in batches for line in batch]
