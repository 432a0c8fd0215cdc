"""The spool on a real disk: what was written is there again, whatever happened in between."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tapeline.model.errors import SpoolError
from tapeline.producer.holes import Hole
from tapeline.producer.spool import Spool
from tapeline.producer.spool_file import Group, SpooledMessage
from tapeline.producer.unsent_times import NO_TIME, UnsentTimes

MB = 2**20
LIMIT = 64 * MB
T0 = 1_763_649_000_000_000


def message(number: int, size: int = 20) -> SpooledMessage:
    return SpooledMessage("trades", b"AAPL", b"%d" % number + b"x" * size)


def opened(folder: Path, max_bytes: int = LIMIT, segment_bytes: int = 1000) -> Spool:
    return Spool(folder, max_bytes, segment_bytes)


def unsent(spool: Spool) -> list[SpooledMessage]:
    """Return what a new life would send, in its order."""
    groups = spool.read(spool.acknowledged + 1, spool.last_number, 1 << 40)
    return [m for group in groups for m in group.messages]


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def test_what_was_written_is_read_again_as_it_was(tmp_path):
    written = [
        SpooledMessage("trades", "TÄST".encode(), b"\x00\xff" * 50),
        SpooledMessage("dead", b"", b"", (("reason", "bad_price"), ("topic", "trades"))),
        SpooledMessage("trades", b"B", b"TLsp" * 10),
    ]
    spool = opened(tmp_path)
    assert spool.append(written, T0) == Group(1, T0, written)
    assert spool.append([], T0 + 5).number == 2
    # No close: as after `kill -9`.

    again = opened(tmp_path)

    assert [g.messages for g in again.read(1, 2, MB)] == [written, []]
    assert (again.last_receipt_us, again.unsent, again.last_number) == (T0 + 5, 3, 2)


def test_what_is_acknowledged_is_not_sent_again(tmp_path):
    spool = opened(tmp_path)
    spool.append([message(1)], T0)
    spool.append([message(2)], T0)
    spool.acknowledged = 1
    spool.append([message(3)], T0)

    assert unsent(opened(tmp_path)) == [message(2), message(3)]


def test_a_spool_that_was_sent_and_closed_has_nothing_to_send_and_knows_its_last_receipt(tmp_path):
    spool = opened(tmp_path)
    spool.append([message(1)], T0)
    spool.acknowledged = 1
    spool.close()

    again = opened(tmp_path)

    assert (unsent(again), again.unsent, again.last_receipt_us) == ([], 0, T0)


def test_files_go_when_everything_in_them_is_acknowledged(tmp_path):
    spool = opened(tmp_path)
    for number in range(1, 101):
        spool.append([message(number, size=300)], T0 + number)
        spool.acknowledged = number - 1

    assert len(files(tmp_path)) <= 2
    assert spool.size == sum(f.stat().st_size for f in files(tmp_path))
    spool.acknowledged = 100
    spool.sync(0.0)
    assert len(files(tmp_path)) == 1


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Count how often each file and folder is really synced, by its inode."""
    count: Counter[int] = Counter()
    fsync = os.fsync

    def counted(file: int) -> None:
        fsync(file)
        count[os.fstat(file).st_ino] += 1

    monkeypatch.setattr(os, "fsync", counted)
    return count


def test_nothing_is_synced_while_kafka_keeps_up_though_something_is_always_on_its_way(
    tmp_path, synced
):
    spool = opened(tmp_path)
    for number in range(1, 11):
        spool.append([message(number, size=300)], T0)
        spool.acknowledged = number - 1
        time.sleep(0.01)
        spool.sync(0.005)
    assert synced == {}

    time.sleep(0.01)  # Kafka stands still
    spool.sync(0.005)
    assert synced[files(tmp_path)[-1].stat().st_ino] == synced[tmp_path.stat().st_ino] == 1


def test_a_sync_brings_all_files_to_the_disk_once_and_again_after_a_crash(tmp_path, synced):
    spool = opened(tmp_path)
    for number in range(10):
        spool.append([message(number, size=300)], T0)
    spool.sync(0.0)
    spool.sync(0.0)
    paths = [*files(tmp_path), tmp_path]
    assert len(paths) > 3
    assert synced == {path.stat().st_ino: 1 for path in paths}

    opened(tmp_path).sync(0.0)  # the next life knows of no sync
    assert synced == {path.stat().st_ino: 2 for path in paths}


def test_only_the_owner_can_read_it(tmp_path):
    spool = opened(tmp_path / "spool")
    spool.append([message(1)], T0)

    (file,) = files(tmp_path / "spool")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_a_full_spool_says_so_and_keeps_what_it_has(tmp_path):
    spool = opened(tmp_path, max_bytes=3000)
    kept: list[SpooledMessage] = []

    def fill() -> None:
        for number in range(100):
            spool.append([message(number, size=300)], T0 + number)
            kept.append(message(number, size=300))

    with pytest.raises(SpoolError, match="TAPELINE_SPOOL__MAX_MB"):
        fill()
    assert 5 <= len(kept) <= 9
    again = opened(tmp_path, max_bytes=3000)
    assert unsent(again) == kept
    assert again.last_receipt_us == T0 + len(kept) - 1
    # Once Kafka has it, there is room again.
    again.acknowledged = again.last_number
    again.append([message(100)], T0 + 100)
    assert unsent(again) == [message(100)]


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let the system refuse writes past a size, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_group_that_the_disk_takes_half_of_leaves_nothing_and_the_next_one_fits(tmp_path):
    spool = opened(tmp_path, segment_bytes=MB)
    spool.append([message(1)], T0)
    with (
        files_no_larger_than(files(tmp_path)[0].stat().st_size + 50),
        pytest.raises(SpoolError, match="cannot be written"),
    ):
        spool.append([message(2, size=500)], T0)
    spool.append([message(3)], T0)

    with capture_logs() as logs:
        assert unsent(opened(tmp_path)) == [message(1), message(3)]
    assert logs == []


FULL_DISK = """
import sys
from pathlib import Path
from tapeline.model.errors import SpoolError
from tapeline.producer.spool import Spool
from tapeline.producer.spool_file import SpooledMessage
from tapeline.producer.unsent_times import NO_TIME, UnsentTimes

spool = Spool(Path(sys.argv[1]), 1 << 30)
written = 0
try:
    while True:
        spool.append([SpooledMessage("t", b"k", b"x" * 1000)], 1)
        written += 1
except SpoolError as error:
    print(written, error)
"""


def test_a_full_disk_is_named_and_what_was_written_before_is_kept(tmp_path):
    """A file system of 1 MB of its own, where the system lets us mount one."""
    script = (
        f"mount -t tmpfs -o size=1m tmpfs {tmp_path} && {sys.executable} -c '{FULL_DISK}' "
        f"{tmp_path}/s && {sys.executable} -c 'import sys; from pathlib import Path; "
        f"from tapeline.producer.spool import Spool; "
        f"print(Spool(Path(sys.argv[1]), 1 << 30).unsent)' {tmp_path}/s"
    )
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    written, _, text = first.partition(" ")
    assert "the disk is full. Make room and start again." in text
    assert 900 < int(written) < 1100
    assert second == written


def test_a_torn_tail_is_cut_off_and_said(tmp_path):
    spool = opened(tmp_path, segment_bytes=MB)
    spool.append([message(1)], T0)
    spool.append([message(2)], T0 + 1)
    (file,) = files(tmp_path)
    os.truncate(file, file.stat().st_size - 3)

    with capture_logs() as logs:
        again = opened(tmp_path)

    assert [line["event"] for line in logs] == ["spool_tail_cut"]
    assert (unsent(again), again.last_receipt_us, again.holes) == ([message(1)], T0, [])
    again.append([message(3)], T0 + 2)
    with capture_logs() as logs:
        assert unsent(opened(tmp_path)) == [message(1), message(3)]
    assert logs == []


def test_damage_in_the_middle_is_said_and_what_follows_is_kept(tmp_path):
    spool = opened(tmp_path, segment_bytes=MB)
    for number in range(1, 6):
        spool.append([message(number)], T0 + number)
    (file,) = files(tmp_path)
    data = bytearray(file.read_bytes())
    data[2 * len(data) // 5 + 40] ^= 0xFF  # in the third of five equal groups
    file.write_bytes(data)

    with capture_logs() as logs:
        again = opened(tmp_path)

    assert [(line["event"], line["log_level"]) for line in logs] == [("spool_damaged", "error")]
    assert unsent(again) == [message(1), message(2), message(4), message(5)]
    assert again.holes == [Hole(3, 3, T0 + 2, T0 + 4)]


def test_damage_in_what_kafka_has_is_no_hole(tmp_path):
    spool = opened(tmp_path, segment_bytes=MB)
    for number in range(1, 6):
        spool.append([message(number)], T0 + number)
        spool.acknowledged = number
    (file,) = files(tmp_path)
    data = bytearray(file.read_bytes())
    data[2 * len(data) // 5 + 40] ^= 0xFF
    file.write_bytes(data)

    again = opened(tmp_path)

    assert (unsent(again), again.holes) == ([message(5)], [])


def test_what_kafka_had_at_the_end_is_noted_though_it_did_not_have_all(tmp_path):
    spool = opened(tmp_path)
    for number in range(1, 4):
        spool.append([message(number)], T0)
    spool.acknowledged = 2
    spool.close()

    assert unsent(opened(tmp_path)) == [message(3)]


FIRST_FORM = bytes.fromhex(
    "544c737095947c074100000001000000000000000000000000000000004a278807440600010000000a0000005b2274"
    "7261646573225d000000000400000003000000000000004141504c6f6e65544c7370ba71ed6d4c0000000200000000"
    "0000000000000000000000014a278807440600010000000a0000005b22747261646573225d00000000040000000300"
    "00000b0000004141504c74776f5b5b2261222c2262225d5d"
)
"""Two groups as spools were written before they noted the oldest time of each."""


def test_a_spool_of_the_first_form_is_read_and_its_oldest_time_is_not_known(tmp_path):
    (tmp_path / f"{1:020d}.spool").write_bytes(FIRST_FORM)

    with capture_logs() as logs:
        spool = opened(tmp_path)

    assert logs == []
    assert unsent(spool) == [
        SpooledMessage("trades", b"AAPL", b"one"),
        SpooledMessage("trades", b"AAPL", b"two", (("a", "b"),)),
    ]
    assert (spool.unsent, spool.last_receipt_us) == (2, T0 + 1)
    assert spool.unsent_times.oldest_us == 0
    spool.append([message(3)], T0 + 2, T0)
    spool.acknowledged = 2
    spool.append([message(4)], T0 + 2, T0 - 5)
    assert opened(tmp_path).unsent_times.oldest_us == T0 - 5
    assert unsent(opened(tmp_path)) == [message(3), message(4)]


SECOND_US = 1_000_000
TIMES = st.lists(st.one_of(st.none(), st.integers(0, 9 * SECOND_US)), max_size=30)


@given(TIMES, st.lists(st.integers(0, 30), max_size=30))
@example([3 * SECOND_US, SECOND_US, 2 * SECOND_US], [1, 0, 2])
def test_the_oldest_time_is_that_of_the_groups_that_are_left_or_a_second_before(
    times, acknowledged
):
    """Groups come one by one; after each, Kafka has all up to some number."""
    found = UnsentTimes()
    done = 0
    for number, oldest_us in enumerate(times, start=1):
        found.add(number, NO_TIME if oldest_us is None else oldest_us)
        if number <= len(acknowledged):
            done = max(done, min(acknowledged[number - 1], number))
            found.acknowledged(done)
        left = [us for us in times[done:number] if us is not None]
        assert (found.oldest_us == NO_TIME) == (left == [])
        if left:
            assert min(left) - SECOND_US < found.oldest_us <= min(left)


STEP = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 3)),
    st.tuples(st.just("acknowledge"), st.integers(1, 4)),
    st.tuples(st.just("sync"), st.just(0)),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("close"), st.just(0)),
    st.tuples(st.just("tear"), st.integers(1, 30)),
)


@given(st.lists(STEP, max_size=40))
@example(
    [("append", 0), ("crash", 0), ("append", 0), ("acknowledge", 1), ("sync", 0), ("crash", 0)]
)
@hypothesis_settings(max_examples=200)
def test_nothing_durable_is_lost_and_order_is_kept_whatever_happens(steps):
    """The model: groups written, the first of them acknowledged. A torn write was not durable."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spool = opened(folder, segment_bytes=200)
        written: list[tuple[int, list[SpooledMessage]]] = []
        count = acknowledged = 0
        for kind, value in steps:
            if kind == "append":
                messages = [message(count + n) for n in range(value)]
                count += value
                written.append((spool.append(messages, T0 + count).number, messages))
            elif kind == "acknowledge":
                acknowledged = min(acknowledged + value, len(written))
                if acknowledged:
                    spool.acknowledged = max(spool.acknowledged, written[acknowledged - 1][0])
            elif kind == "sync":
                spool.sync(0.0)
            else:
                if kind == "close":
                    spool.close()
                if kind == "tear" and (found := files(folder)):
                    with found[-1].open("ab") as file:  # a write that the crash cut short
                        file.write(b"TLsp\x01\x02"[: value % 7] + b"\x00" * value)
                spool = opened(folder, segment_bytes=200)
            groups = spool.read(1, spool.last_number, 1 << 40)
            numbers = [group.number for group in groups]
            sent = [m for _, messages in written for m in messages]
            there = [m for group in groups for m in group.messages]
            kept = [m for _, messages in written[acknowledged:] for m in messages]
            assert numbers == sorted(set(numbers))
            assert there == sent[len(sent) - len(there) :]
            # What is not acknowledged would be sent; of the rest at most what was not noted yet.
            would_be_sent = unsent(spool)
            assert would_be_sent[len(would_be_sent) - len(kept) :] == kept
            assert spool.holes == []
