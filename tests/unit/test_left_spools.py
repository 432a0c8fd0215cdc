"""What producers of other names have left on disk; Kafka is away."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path

import pytest

from tapeline.local.home import Home
from tapeline.model.errors import UsageError
from tapeline.producer.holes import Hole
from tapeline.producer.kafka_producer import KafkaProducer
from tapeline.producer.left_spools import LeftSpools
from tapeline.producer.spool import Spool
from tapeline.producer.spool_file import SpooledMessage
from tapeline.producer.spool_folder import opened_spools
from tapeline.program.settings import Settings, load_settings

T0 = 1_763_649_000_000_000
MB = 2**20


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Spools of a megabyte at most, below a home of this test."""
    loaded = load_settings()
    spool = loaded.spool.model_copy(update={"max_mb": 1})
    return loaded.model_copy(update={"home": tmp_path, "spool": spool})


def folder_of(settings: Settings) -> Path:
    return Home(settings.home).spool / settings.kafka.topic


def leave(settings: Settings, producer_id: str, *values: bytes) -> Path:
    """Let a producer stop with messages that Kafka lacks, each a group of its own."""
    folder = folder_of(settings) / producer_id
    spool = Spool(folder, MB)
    for number, value in enumerate(values, start=1):
        spool.append([SpooledMessage("trades", b"AAPL", value)], T0 + number, T0 - number)
    spool.close()
    return folder


def values_in(spool: Spool) -> list[bytes]:
    groups = spool.read(spool.acknowledged + 1, spool.last_number, 1 << 40)
    return [message.value for group in groups for message in group.messages]


def test_more_than_the_limit_left_by_others_does_not_keep_a_producer_from_starting(settings):
    most = bytes(900_000)
    leave(settings, "a-00000001", b"1", most)
    leave(settings, "c-00000003", b"2", most)

    with opened_spools(settings, "b-00000002", is_tape=False) as spools:
        assert [left.producer_id for left in spools.left] == ["a-00000001", "c-00000003"]
        assert [values_in(left.spool) for left in spools.left] == [[b"1", most], [b"2", most]]
        assert spools.own.unsent == 0
        spools.own.append([SpooledMessage("trades", b"AAPL", most)], T0)
        # Whoever left it can run again at once, and has nothing of it.
        with opened_spools(settings, "a-00000001", is_tape=False) as again:
            assert (again.own.unsent, again.left) == (0, ())


def test_a_spool_that_another_takes_at_the_same_moment_is_left_to_it(settings, monkeypatch):
    leave(settings, "a-00000001", b"1")
    stolen = folder_of(settings) / "a-00000001"
    rename = Path.rename

    def second(folder: Path, target: Path) -> Path:
        """Rename as whoever came a moment earlier has."""
        rename(folder, folder.with_name(f"{stolen.name}~1"))
        return rename(folder, target)

    monkeypatch.setattr(Path, "rename", second)
    with opened_spools(settings, "b-00000002", is_tape=False) as spools:
        assert spools.left == ()

    monkeypatch.setattr(Path, "rename", rename)
    with opened_spools(settings, "a-00000001", is_tape=False) as spools:
        # It was taken over from this one, so what it says of its last receipt counts.
        assert spools.own.last_receipt_us is None
        assert spools.last_receipt_us("a-00000001") == T0 + 1
        assert [values_in(left.spool) for left in spools.left if left.spool.unsent] == [[b"1"]]


def test_what_was_taken_over_and_not_sent_is_there_for_whoever_comes_next(settings):
    leave(settings, "a-00000001", b"1")
    with opened_spools(settings, "b-00000002", is_tape=False):
        pass

    with opened_spools(settings, "c-00000003", is_tape=False) as spools:
        found = {left.producer_id: values_in(left.spool) for left in spools.left}
        assert found == {"a-00000001": [b"1"], "b-00000002": []}
        for left in spools.left:
            left.delete()
    with opened_spools(settings, "c-00000003", is_tape=False) as spools:
        assert spools.left == ()
    assert sorted(path.name for path in folder_of(settings).iterdir()) == [
        "a-00000001.lock",
        "b-00000002.lock",
        "c-00000003",
        "c-00000003.lock",
    ]


def test_the_spool_of_a_producer_that_runs_is_left_alone(settings):
    with opened_spools(settings, "a-00000001", is_tape=False) as running:
        running.own.append([SpooledMessage("trades", b"AAPL", b"1")], T0)
        with opened_spools(settings, "b-00000002", is_tape=False) as spools:
            assert spools.left == ()
        with ExitStack() as stack, pytest.raises(UsageError, match="Another producer a-00000001"):
            stack.enter_context(opened_spools(settings, "a-00000001", is_tape=False))
    assert values_in(Spool(folder_of(settings) / "a-00000001", MB)) == [b"1"]


def test_a_name_whose_spool_others_would_take_for_part_of_theirs_is_refused(settings):
    with (
        ExitStack() as stack,
        pytest.raises(UsageError, match="no slash: choose another one than a/b-00000001"),
    ):
        stack.enter_context(opened_spools(settings, "a/b-00000001", is_tape=False))


def test_what_is_left_counts_as_waiting_and_its_damage_is_told_with_its_producer(settings):
    early = leave(settings, "a-00000001", b"1", b"2", b"3", b"4", b"5")
    damage(early, 2, 5)
    late = leave(settings, "c-00000003", b"6", b"7", b"8", b"9", b"0")

    async def run() -> None:
        with opened_spools(settings, "b-00000002", is_tape=False) as spools:
            producer = KafkaProducer("127.0.0.1:9", "trades")
            left = LeftSpools(producer, spools.left, settings.spool)
            assert (left.pending, left.oldest_unsent_us) == (9, T0 - 5)
            damage(spools.left[0].folder, 4, 5)  # only now
            told: list[tuple[str, Hole]] = []
            left.tell(lambda producer_id, hole: told.append((producer_id, hole)))
            sending = asyncio.create_task(left.send())
            while len(told) < 2:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)  # for what comes too much
            sending.cancel()
            await left.close()
            assert told == [
                ("a-00000001", Hole(2, 2, T0 + 1, T0 + 3)),
                ("a-00000001", Hole(4, 4, T0 + 3, T0 + 5)),
            ]

    asyncio.run(asyncio.wait_for(run(), 10))

    assert not early.exists()
    assert not late.exists()
    with opened_spools(settings, "d-00000004", is_tape=False) as spools:
        found = {left.producer_id: values_in(left.spool) for left in spools.left}
    assert found == {
        "a-00000001": [b"1", b"3", b"5"],
        "b-00000002": [],
        "c-00000003": [b"6", b"7", b"8", b"9", b"0"],
    }


def damage(folder: Path, group: int, groups: int) -> None:
    """Turn a bit of one of the groups of a spool of one file."""
    (path,) = folder.glob("*.spool")
    data = bytearray(path.read_bytes())
    data[(group - 1) * len(data) // groups + 40] ^= 1
    path.write_bytes(data)
