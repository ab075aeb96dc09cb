"""The disk buffer: what was appended comes back, in order, whatever happened to the process or the disk."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest.agent.buffer import Buffer, Position
from ingest.agent.segments import decode_lines, encode_line, segment_numbers, segment_path
from schema.errors import Invalid, TooLarge, Unavailable

MIB = 1024 * 1024
TEXTS = st.binary(max_size=60).filter(lambda text: b"\n" not in text)


def numbered(begin: int, end: int) -> list[bytes]:
    return [b'{"number":%d}' % number for number in range(begin, end)]


def everything(buffer: Buffer) -> list[bytes]:
    found: list[bytes] = []
    while batch := buffer.take(max_events=7, max_bytes=200):
        found += batch.lines
        buffer.advance(batch.ends[-1])
    return found


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """A real refusal of the kernel in the middle of a write, as a full disk gives it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@given(st.lists(TEXTS))
def test_lines_come_back_as_they_were_written(texts: list[bytes]) -> None:
    lines = decode_lines(b"".join(map(encode_line, texts)), 100)
    assert list(lines.texts) == texts
    assert lines.damaged_bytes == 0
    assert list(lines.ends) == [
        100 + sum(len(encode_line(text)) for text in texts[: count + 1]) for count in range(len(texts))
    ]


@given(st.lists(TEXTS, min_size=1), st.data())
def test_one_changed_byte_costs_its_line_and_at_most_the_next(
    texts: list[bytes], data: st.DataObject
) -> None:
    content = bytearray(b"".join(map(encode_line, texts)))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    found = list(decode_lines(bytes(content)).texts)
    struck = bytes(content[:place]).count(b"\n")
    assert found[:struck] == texts[:struck]
    assert len(found) >= len(texts) - 2
    rest = texts[struck + 2 :]
    assert not rest or found[-len(rest) :] == rest


@given(st.lists(TEXTS, min_size=1), st.data())
def test_a_torn_end_costs_only_the_torn_line(texts: list[bytes], data: st.DataObject) -> None:
    content = b"".join(map(encode_line, texts))
    cut = data.draw(st.integers(0, len(content)))
    whole = content[:cut].count(b"\n")
    lines = decode_lines(content[:cut])
    assert list(lines.texts) == texts[:whole]
    assert lines.damaged_bytes == cut - (lines.ends[-1] if lines.ends else 0)


class Queue(RuleBasedStateMachine):
    """The buffer against a plain list, through closes, crashes and torn ends."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp(prefix="weir-buffer-"))
        self.buffer = self.opened()
        self.expected: list[bytes] = []
        self.made = 0
        self.taken: list[tuple[Position, int]] = []

    def opened(self) -> Buffer:
        return Buffer(self.folder / "a", max_bytes=MIB, segment_bytes=120, sync_seconds=60)

    @rule(count=st.integers(0, 12))
    def append(self, count: int) -> None:
        texts = numbered(self.made, self.made + count)
        self.made += count
        assert self.buffer.append(texts) == 0
        self.expected += texts

    @rule(max_events=st.integers(1, 6), max_bytes=st.integers(1, 200))
    def take(self, max_events: int, max_bytes: int) -> None:
        batch = self.buffer.take(max_events=max_events, max_bytes=max_bytes)
        assert (batch is None) == (not self.expected)
        self.taken = []
        if batch is not None:
            assert list(batch.lines) == self.expected[: len(batch.lines)]
            assert len(batch.lines) <= max_events
            self.taken = [(end, index + 1) for index, end in enumerate(batch.ends)]

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def advance(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.taken) - 1))
        position, count = self.taken[place]
        self.buffer.advance(position)
        self.buffer.advance(position)
        del self.expected[:count]
        self.taken = [(end, index - count) for end, index in self.taken[place + 1 :]]

    @rule()
    def reopen(self) -> None:
        self.buffer.close()
        self.buffer = self.opened()
        self.taken = []

    @rule()
    def crash(self) -> None:
        """What a killed process leaves: the files as they are, and nobody's lock."""
        left = self.folder / "left"
        shutil.copytree(self.folder / "a", left)
        self.buffer.close()
        shutil.rmtree(self.folder / "a")
        left.rename(self.folder / "a")
        self.buffer = self.opened()
        self.taken = []

    @rule(tail=st.binary(min_size=1, max_size=40))
    def torn_write(self, tail: bytes) -> None:
        """A crash in the middle of a line that append had not returned for."""
        self.buffer.close()
        numbers = segment_numbers(self.folder / "a")
        if numbers:
            with segment_path(self.folder / "a", numbers[-1]).open("ab") as file:
                file.write(tail)
        self.buffer = self.opened()
        self.taken = []

    @invariant()
    def counts(self) -> None:
        assert self.buffer.waiting_events == len(self.expected)

    def teardown(self) -> None:
        assert everything(self.buffer) == self.expected
        assert self.buffer.waiting_events == 0
        self.buffer.close()
        shutil.rmtree(self.folder)


TestQueue = Queue.TestCase
TestQueue.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_the_folder_stays_within_its_bound_and_the_oldest_go(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, max_bytes=4_000, segment_bytes=500, sync_seconds=60)
    dropped = 0
    for number in range(1_000):
        dropped += buffer.append(numbered(number, number + 1))
        assert sum(path.stat().st_size for path in tmp_path.glob("*.events")) <= 4_000
    left = everything(buffer)
    assert dropped == buffer.dropped_events == 1_000 - len(left)
    assert len(left) > 50
    assert left == numbered(1_000 - len(left), 1_000)
    buffer.close()


def test_what_was_dropped_under_a_batch_stays_dropped(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, max_bytes=2_000, segment_bytes=500, sync_seconds=60)
    buffer.append(numbered(0, 20))
    batch = buffer.take(max_events=10, max_bytes=10_000)
    assert batch is not None
    buffer.append(numbered(20, 200))
    waiting = buffer.waiting_events
    buffer.advance(batch.ends[-1])
    assert buffer.waiting_events == waiting
    assert everything(buffer) == numbered(200 - waiting, 200)
    buffer.close()


def test_one_event_larger_than_the_folder_is_refused_and_drops_nothing(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, max_bytes=1_000, segment_bytes=200)
    buffer.append(numbered(0, 3))
    with pytest.raises(TooLarge):
        buffer.append([b"x" * 1_000])
    assert everything(buffer) == numbered(0, 3)
    buffer.close()


def test_a_disk_that_refuses_in_mid_write_costs_that_append_alone(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, max_bytes=MIB, segment_bytes=100_000)
    buffer.append(numbered(0, 10))
    with largest_file(1_000), pytest.raises(Unavailable, match="cannot write the buffer"):
        buffer.append(numbered(10, 500))
    buffer.append(numbered(500, 510))
    assert buffer.waiting_events == 20
    buffer.close()
    again = Buffer(tmp_path, max_bytes=MIB)
    assert again.damaged_bytes == 0
    assert everything(again) == numbered(0, 10) + numbered(500, 510)
    again.close()


def test_a_front_that_cannot_be_read_means_everything_again(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, max_bytes=MIB)
    buffer.append(numbered(0, 10))
    batch = buffer.take(max_events=4, max_bytes=MIB)
    assert batch is not None
    buffer.advance(batch.ends[-1])
    buffer.close()
    (tmp_path / "front").write_bytes(b"00000000 9 9\n")
    again = Buffer(tmp_path, max_bytes=MIB)
    assert everything(again) == numbered(0, 10)
    again.close()


def test_two_cannot_hold_one_folder(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path, max_bytes=MIB)
    with pytest.raises(Invalid, match="another process holds"):
        Buffer(tmp_path, max_bytes=MIB)
    buffer.close()
    Buffer(tmp_path, max_bytes=MIB).close()


def test_only_the_owner_reads_the_segments(tmp_path: Path) -> None:
    buffer = Buffer(tmp_path / "deep" / "folder", max_bytes=MIB)
    buffer.append(numbered(0, 1))
    (segment,) = (tmp_path / "deep" / "folder").glob("*.events")
    assert segment.stat().st_mode & 0o777 == 0o600
    assert segment.parent.stat().st_mode & 0o777 == 0o700
    buffer.close()


WRITER = """
import sys
from pathlib import Path
from ingest.agent.buffer import Buffer
buffer = Buffer(Path(sys.argv[1]), max_bytes=64 * 1024 * 1024, segment_bytes=20_000, sync_seconds=0.01)
number = int(sys.argv[2])
while True:
    numbers = range(number, number + 5)
    buffer.append([b'{"number":%d,"filling":"%s"}' % (each, b"x" * 300) for each in numbers])
    number += 5
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_kill_9_of_a_writing_process_loses_nothing_that_was_appended(tmp_path: Path) -> None:
    folder, told = tmp_path / "buffer", 0
    for life in range(4):
        output = tmp_path / f"told-{life}"
        with output.open("wb") as file:
            writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(told)], stdout=file)
            deadline = time.monotonic() + 20
            while output.stat().st_size < 1_000:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.013 * life)
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait(10)
        whole = output.read_text().rpartition("\n")[0]
        told = int(whole.rpartition("\n")[2])
        buffer = Buffer(folder, max_bytes=64 * MIB)
        numbers = []
        for number in segment_numbers(folder):
            lines = decode_lines(segment_path(folder, number).read_bytes()).texts
            numbers += [int(line[10 : line.index(b",")]) for line in lines]
        # It may have written more than it could tell us before it died.
        assert numbers == list(range(len(numbers)))
        assert told <= len(numbers) <= told + 5
        assert buffer.waiting_events == len(numbers)
        told = len(numbers)
        buffer.close()
