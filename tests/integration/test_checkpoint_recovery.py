"""What becomes of checkpoints that are gone, old, damaged or of something else, on real Spark.

`docs/checkpoints.md` has the same table.
"""

from __future__ import annotations

import shutil
import threading
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from pyspark.errors import StreamingQueryException

from tapeline.consumer.checkpoint_check import prepare_checkpoint
from tapeline.consumer.checkpoint_label import CheckpointLabel
from tapeline.consumer.checkpoints import Checkpoints
from tapeline.consumer.job import Job, JobOptions, RunningJob, SinkKind
from tapeline.consumer.spark_processor import ALL_LAYERS, Layer, Topic
from tapeline.kafka.feed_view import FeedView
from tapeline.kafka.topics import topic_admin
from tapeline.model.bar import Interval
from tapeline.model.conditions import ALL
from tapeline.model.errors import SchemaError, StreamError, UsageError
from tapeline.model.trade import Trade, encode_trade
from tapeline.program.metrics import STREAM_METRICS, Metrics
from tapeline.program.settings import Settings
from tapeline.storage.windows import WINDOW_BUCKET_OFFSETS
from tests.hand import TAPE, TRADES, hand_bars, values_of
from tests.pipeline import Pipeline

WINDOW_MS = 1_710_513_000_000
HOUR_MS = 3_600_000
WINDOW = datetime(2024, 3, 15, 14, 30, tzinfo=timezone.utc)


def send(pipeline: Pipeline, *trade_ids: int) -> None:
    """Send trades of one window, each at its own millisecond."""
    now_us = _now_us()
    pipeline.send_messages(
        [
            ("TEST", encode_trade(Trade("TEST", 10.0, 1.0, WINDOW_MS + i, None, i, now_us, 0, "x")))
            for i in trade_ids
        ]
    )


def _now_us() -> int:
    return int(datetime.now(timezone.utc).timestamp() * 1e6)


def prepare(
    pipeline: Pipeline,
    checkpoint: str,
    job: Job = Job.ALL,
    settings: Settings | None = None,
    starting_offsets: str = "earliest",
) -> Topic:
    """Check checkpoints as a job does before it starts its queries."""
    settings = settings or pipeline.settings
    topic = Topic(
        pipeline.endpoints.bootstrap_servers, pipeline.name, pipeline.topic_id, starting_offsets
    )
    checkpoints = pipeline.checkpoints(checkpoint)
    feed = FeedView(pipeline.endpoints.bootstrap_servers, settings.kafka, pipeline.topic_id)
    with closing(feed):
        assert job.query is not None
        return prepare_checkpoint(checkpoints, job.query, settings, topic, feed, pipeline.client)


def silver_ids(pipeline: Pipeline) -> set[int]:
    return {row["trade_id"] for row in pipeline.rows("trades_silver")}


def is_read_again(pipeline: Pipeline) -> bool:
    progress = pipeline.client.progress(pipeline.topic_id).values()
    return any(p.read_offset != p.committed_offset for p in progress)


def forget_silver(pipeline: Pipeline) -> None:
    """Empty what says how far silver is, and silver."""
    for table in ("ingest_progress", "window_state", "trades_silver"):
        pipeline.session.execute(f"TRUNCATE {table}")


def log_file(folder: Path, log: str) -> Path:
    """Return the newest file of one of Spark's logs."""
    return max((f for f in (folder / log).iterdir() if f.name.isdigit()), key=lambda f: int(f.name))


def remove_newest_commit(folder: Path) -> None:
    file = log_file(folder, "commits")
    file.unlink()
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)


def empty_newest_commit(folder: Path) -> None:
    log_file(folder, "commits").write_bytes(b"")


def truncate_newest_offsets(folder: Path) -> None:
    file = log_file(folder, "offsets")
    file.write_bytes(file.read_bytes()[:40])


def remove_newest_offsets(folder: Path) -> None:
    log_file(folder, "offsets").unlink()


def remove_all_commits(folder: Path) -> None:
    shutil.rmtree(folder / "commits")


def remove_metadata(folder: Path) -> None:
    (folder / "metadata").unlink()


def empty_metadata(folder: Path) -> None:
    (folder / "metadata").write_bytes(b"")


def remove_label(folder: Path) -> None:
    (folder / "tapeline.json").unlink()


def remove_offsets_before_the_newest(folder: Path) -> None:
    (folder / "offsets" / str(int(log_file(folder, "offsets").name) - 1)).unlink()


def remove_all_offsets(folder: Path) -> None:
    shutil.rmtree(folder / "offsets")


GOES_ON = [remove_newest_commit, remove_metadata, remove_label]
BEGUN_ANEW = [
    remove_all_commits,
    empty_newest_commit,
    truncate_newest_offsets,
    remove_newest_offsets,
    remove_offsets_before_the_newest,
    remove_all_offsets,
    empty_metadata,
]


def test_a_damaged_checkpoint_of_ingest_goes_on_or_reads_the_topic_anew(
    pipeline: Pipeline,
) -> None:
    for trade_id in (1, 2, 3):
        send(pipeline, trade_id)
        pipeline.ingest(checkpoint="base")
    expected = {1, 2, 3}

    for n, damage in enumerate([*GOES_ON, *BEGUN_ANEW]):
        root = pipeline.folder / damage.__name__
        shutil.copytree(pipeline.folder / "base" / "ingest", root / "ingest")
        damage(root / "ingest")
        send(pipeline, 10 + n)
        prepare(pipeline, damage.__name__)
        pipeline.ingest(checkpoint=damage.__name__)

        expected.add(10 + n)
        assert silver_ids(pipeline) == expected, damage.__name__
        assert (root / "ingest.aside").exists() == (damage in BEGUN_ANEW), damage.__name__


def test_a_query_that_fails_ends_the_job_with_its_cause(pipeline: Pipeline) -> None:
    send(pipeline, 1)
    pipeline.session.execute("DROP TABLE trades_gold_5m")
    processor = pipeline.processor()
    query = processor.start()
    options = JobOptions(Job.ALL, SinkKind.CASSANDRA, "0 seconds", until_final=False)

    with pytest.raises(StreamingQueryException):
        query.processAllAvailable()
    with pytest.raises(StreamError, match=r"The ingest query has failed: .*trades_gold_5m"):
        RunningJob(processor, None, Metrics(STREAM_METRICS)).watch(
            threading.Event(), options, interval_s=0.1
        )
    processor.stop()


def test_another_policy_goes_on_with_the_checkpoint_and_its_own_previews(
    pipeline: Pipeline,
) -> None:
    contingent = Trade("TEST", 99.0, 1.0, WINDOW_MS + 1, ("26",), 7, _now_us(), 0, "x")
    send(pipeline, 1)
    run_all(pipeline)
    stream = pipeline.settings.stream.model_copy(update={"policy": ALL})
    pipeline.settings = pipeline.settings.model_copy(update={"stream": stream})
    prepare(pipeline, "checkpoint")
    pipeline.send_messages([("TEST", encode_trade(contingent))])
    run_all(pipeline)

    bar = pipeline.bars()["TEST", WINDOW]
    assert (bar.high, bar.trade_count, bar.policy, bar.is_final) == (99.0, 2, "all", False)
    assert not (pipeline.folder / "checkpoint" / "ingest.aside").exists()


def run_all(pipeline: Pipeline) -> None:
    """Bring everything in the topic to every layer by one query."""
    pipeline.ingest(ALL_LAYERS)


@pytest.mark.parametrize("field", ["format", "topic_id"])
def test_a_checkpoint_of_another_version_or_topic_starts_over(
    pipeline: Pipeline, field: str
) -> None:
    send(pipeline, 1)
    pipeline.ingest()
    folder = pipeline.folder / "checkpoint" / "ingest"
    label = CheckpointLabel.read(folder)
    assert label is not None
    other = {"format": 0, "topic_id": "another"}[field]
    label.model_copy(update={field: other}).write(folder)
    pipeline.session.execute("TRUNCATE trades_silver")

    # A job that is killed before its first batch changes nothing of that.
    prepare(pipeline, "checkpoint", starting_offsets="latest")
    topic = prepare(pipeline, "checkpoint", starting_offsets="latest")
    is_behind = is_read_again(pipeline)
    pipeline.ingest()

    assert topic.starting_offsets == "earliest"
    assert is_behind
    assert not is_read_again(pipeline)
    assert silver_ids(pipeline) == {1}


def test_a_checkpoint_of_another_keyspace_is_refused(pipeline: Pipeline) -> None:
    send(pipeline, 1)
    pipeline.ingest()
    cassandra = pipeline.settings.cassandra.model_copy(update={"keyspace": "other"})
    settings = pipeline.settings.model_copy(update={"cassandra": cassandra})

    with pytest.raises(SchemaError, match=f"is of keyspace {pipeline.name}: give keyspace other"):
        prepare(pipeline, "checkpoint", settings=settings)


def test_a_checkpoint_of_a_keyspace_that_was_emptied_is_refused(pipeline: Pipeline) -> None:
    send(pipeline, 1)
    pipeline.ingest()
    pipeline.session.execute("TRUNCATE ingest_progress")

    with pytest.raises(SchemaError, match="--reset-checkpoint"):
        prepare(pipeline, "checkpoint")


def test_what_the_keyspace_has_forgotten_since_is_read_again(pipeline: Pipeline) -> None:
    """An older copy of the keyspace is put back under a newer checkpoint."""
    send(pipeline, 1)
    pipeline.ingest()
    older = pipeline.client.progress(pipeline.topic_id).values()
    send(pipeline, 2)
    pipeline.ingest()
    forget_silver(pipeline)
    pipeline.client.write_progress(pipeline.topic_id, older)

    prepare(pipeline, "checkpoint")
    pipeline.ingest()

    assert silver_ids(pipeline) == {1, 2}
    pipeline.now += timedelta(minutes=11)  # quiet for so long that no more can be on its way
    assert pipeline.finalize().finalized_5m == 1
    prepare(pipeline, "checkpoint")
    assert (pipeline.folder / "checkpoint" / "ingest" / "commits" / "0").exists()
    assert not is_read_again(pipeline)


def test_a_running_stream_stops_when_the_keyspace_has_lost_its_progress_and_reads_it_again(
    pipeline: Pipeline,
) -> None:
    """Cassandra comes back without its last writes, and nobody restarts the stream."""
    send(pipeline, 1)
    processor = pipeline.processor()
    query = processor.start(ALL_LAYERS)
    query.processAllAvailable()
    older = pipeline.client.progress(pipeline.topic_id).values()
    send(pipeline, 2)
    query.processAllAvailable()
    assert processor.kept is not None
    processor.kept.require()
    forget_silver(pipeline)
    pipeline.client.write_progress(pipeline.topic_id, older)

    options = JobOptions(Job.ALL, SinkKind.CASSANDRA, "0 seconds", until_final=False)
    with pytest.raises(StreamError, match=r"up to offset 1 and is there up to 0\."):
        RunningJob(processor, None, Metrics(STREAM_METRICS)).watch(
            threading.Event(), options, interval_s=0.1
        )
    send(pipeline, 3)
    with pytest.raises(StreamingQueryException, match="has lost writes"):
        query.processAllAvailable()
    processor.stop()
    assert pipeline.client.progress(pipeline.topic_id)[0].committed_offset == 0

    prepare(pipeline, "checkpoint")
    run_all(pipeline)
    assert silver_ids(pipeline) == {1, 2, 3}


def test_a_keyspace_that_forgot_all_of_a_topic_while_its_stream_ran_is_filled_again(
    pipeline: Pipeline,
) -> None:
    """A stream that finds nothing when it starts cannot tell: it may be another keyspace."""
    send(pipeline, 1)
    processor = pipeline.processor()
    query = processor.start(ALL_LAYERS)
    query.processAllAvailable()
    forget_silver(pipeline)
    send(pipeline, 2)
    with pytest.raises(StreamingQueryException, match="has lost writes"):
        query.processAllAvailable()
    processor.stop()

    prepare(pipeline, "checkpoint")
    run_all(pipeline)

    assert silver_ids(pipeline) == {1, 2}
    prepare(pipeline, "checkpoint")
    assert not is_read_again(pipeline)


@pytest.mark.parametrize("starting_offsets", ["earliest", "latest"])
def test_a_stream_stopped_before_the_first_trade_starts_again(
    pipeline: Pipeline, starting_offsets: str
) -> None:
    """Spark commits a first batch of no messages."""
    prepare(pipeline, "checkpoint", starting_offsets=starting_offsets)
    pipeline.ingest()
    committed = log_file(pipeline.folder / "checkpoint" / "ingest", "commits").name

    prepare(pipeline, "checkpoint", starting_offsets=starting_offsets)
    send(pipeline, 1)
    pipeline.ingest()

    assert committed == "0"
    assert silver_ids(pipeline) == {1}
    pipeline.session.execute("TRUNCATE ingest_progress")
    with pytest.raises(SchemaError, match="--reset-checkpoint"):
        prepare(pipeline, "checkpoint")


def test_an_older_checkpoint_repeats_what_it_has_forgotten(pipeline: Pipeline) -> None:
    send(pipeline, 1)
    pipeline.ingest()
    shutil.copytree(pipeline.folder / "checkpoint", pipeline.folder / "older")
    send(pipeline, 2)
    pipeline.ingest()
    before = pipeline.rows("trades_silver")

    prepare(pipeline, "older")
    pipeline.ingest(checkpoint="older")

    assert pipeline.rows("trades_silver") == before
    assert not (pipeline.folder / "older" / "ingest.aside").exists()


def test_a_checkpoint_older_than_kafka_starts_over_unless_messages_were_never_read(
    pipeline: Pipeline,
) -> None:
    send(pipeline, 1)
    pipeline.ingest()
    shutil.copytree(pipeline.folder / "checkpoint", pipeline.folder / "older")
    send(pipeline, 2, 3)
    pipeline.ingest()
    _expire_before(pipeline, 3)

    prepare(pipeline, "older")  # what has expired is in silver
    pipeline.ingest(checkpoint="older")
    read = silver_ids(pipeline)
    send(pipeline, 4, 5)
    _expire_before(pipeline, 4)

    assert (pipeline.folder / "older" / "ingest.aside").exists()
    assert read == {1, 2, 3}
    with pytest.raises(SchemaError, match=r"Messages 3 to 3 of partition 0 .* expired"):
        prepare(pipeline, "checkpoint")
    empty_newest_commit(pipeline.folder / "checkpoint" / "ingest")  # nor is it started over
    with pytest.raises(SchemaError, match=r"Messages 3 to 3 of partition 0 .* expired"):
        prepare(pipeline, "checkpoint")


def _expire_before(pipeline: Pipeline, offset: int) -> None:
    """Let Kafka forget messages as its retention does."""
    admin = topic_admin(pipeline.endpoints.bootstrap_servers)
    partition = TopicPartition(pipeline.name, 0, offset)
    for future in admin.delete_records([partition]).values():
        future.result()


def test_a_job_moved_from_all_to_apart_gives_the_same_bars(pipeline: Pipeline) -> None:
    pipeline.send_tape(TAPE)
    pipeline.ingest()
    pipeline.preview()

    for job, layers in ((Job.SILVER, {Layer.SILVER}), (Job.BRONZE, {Layer.BRONZE})):
        prepare(pipeline, "checkpoint", job)
        assert is_read_again(pipeline) == (job is Job.SILVER)
        pipeline.ingest(frozenset(layers))
    prepare(pipeline, "checkpoint", Job.GOLD)
    pipeline.preview()
    result = pipeline.finalize()

    assert len(pipeline.rows("trades_bronze")) == TRADES
    assert len(pipeline.rows("trades_silver")) == TRADES
    assert result.is_finished
    assert {key: values_of(bar) for key, bar in pipeline.bars().items()} == hand_bars(
        Interval.FIVE_MINUTES
    )


def test_history_that_was_left_out_is_finalized_when_the_topic_is_read_again(
    pipeline: Pipeline,
) -> None:
    send(pipeline, *range(WINDOW_BUCKET_OFFSETS), HOUR_MS)
    prepare(pipeline, "checkpoint", starting_offsets="latest")
    pipeline.finalize()
    left_out = pipeline.client.progress(pipeline.topic_id)[0]

    prepare(pipeline, "checkpoint")
    pipeline.ingest()
    pipeline.finalize()  # by a finalizer that knows nothing of what was before

    assert left_out.finalized_bucket == 1
    bar = pipeline.bars()["TEST", WINDOW]
    assert (bar.is_final, bar.trade_count) == (True, WINDOW_BUCKET_OFFSETS)


def test_a_second_driver_on_the_same_checkpoint_is_refused(pipeline: Pipeline) -> None:
    checkpoints = Checkpoints(pipeline.folder / "checkpoint")
    with (
        checkpoints.held("ingest", wait_s=0),
        pytest.raises(UsageError, match="Another driver works on the checkpoint"),
        checkpoints.held("ingest", wait_s=0.3),
    ):
        pass
    with checkpoints.held("ingest", wait_s=0):
        pass


def test_a_checkpoint_is_not_reset_under_a_driver(pipeline: Pipeline) -> None:
    send(pipeline, 1)
    pipeline.ingest()
    checkpoints = Checkpoints(pipeline.folder / "checkpoint")

    with checkpoints.held("ingest", wait_s=0), pytest.raises(UsageError):
        checkpoints.reset("ingest", confirmed=True)

    assert (pipeline.folder / "checkpoint" / "ingest" / "commits").exists()
