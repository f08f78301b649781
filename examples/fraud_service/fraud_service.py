"""A fraud service: holds each payment whose fraud score is high, once, whatever is delivered twice and whoever is killed.

    fraud_service.py --bootstrap localhost:9092        holds payments until Ctrl-C
    fraud_service.py --list                            the holds, one JSON object a line, oldest first

Scores come from the topic `fraud-scores` at least once: Watershed sends the scores of an epoch as soon as it is decided, and sends
them again if it was killed before it knew that they had arrived. The id of a score says which input row made it, so the same
score always has the same `score_id`. What this file shows is how a consumer makes "once" out of that; README.md tells why it works.
"""

import argparse
import json
import signal
import sqlite3
import sys
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

# The hold and the memory of it are one row: it cannot be that one of them is there without the other.
SCHEMA = """
CREATE TABLE IF NOT EXISTS holds (
    n          INTEGER PRIMARY KEY,
    score_id   TEXT NOT NULL UNIQUE,
    payment_id TEXT NOT NULL,
    score      REAL NOT NULL,
    reasons    TEXT NOT NULL,
    held_at_ms INTEGER NOT NULL
)
"""


def open_store(path):
    # isolation_level=None: transactions begin and end where this file says so.
    store = sqlite3.connect(path, timeout=30, isolation_level=None)
    store.execute("PRAGMA journal_mode = WAL")
    store.execute("PRAGMA synchronous = FULL")  # a committed hold outlives a power cut, not only kill -9
    store.execute(SCHEMA)
    return store


class BadScore(ValueError):
    """A message that is no score. It is counted and passed over: it would be no better the next time."""


def parse(value):
    """Gives (score_id, payment_id, score, reasons)."""
    try:
        record = json.loads(value)
        score_id, payment_id, score = record["score_id"], record["payment_id"], float(record["score"])
    except (TypeError, ValueError, KeyError) as error:
        raise BadScore(f"{type(error).__name__}: {error}") from error
    if not (isinstance(score_id, str) and isinstance(payment_id, str) and score == score):
        raise BadScore("score_id and payment_id must be text, score a number")
    return score_id, payment_id, score, json.dumps(record.get("reasons"))


def hold_all(store, messages, threshold, keep):
    """Holds what must be held among `messages`, in one transaction. Gives counts."""
    held = repeated = bad = 0
    store.execute("BEGIN IMMEDIATE")
    try:
        for message in messages:
            try:
                score_id, payment_id, score, reasons = parse(message.value())
            except BadScore as error:
                bad += 1
                print(f"{message.topic()}/{message.partition()}@{message.offset()} is no score: {error}", file=sys.stderr)
                continue
            if score < threshold:
                continue
            # The transaction is the only one that writes: nobody comes between the question and the hold.
            if store.execute("SELECT 1 FROM holds WHERE score_id = ?", (score_id,)).fetchone():
                repeated += 1
                continue
            row = (score_id, payment_id, score, reasons, int(time.time() * 1000))
            store.execute("INSERT INTO holds (score_id, payment_id, score, reasons, held_at_ms) VALUES (?, ?, ?, ?, ?)", row)
            held += 1
        # Bounded: only the newest `keep` are remembered. SQLite numbers rows without gaps, for only the oldest are ever deleted.
        store.execute("DELETE FROM holds WHERE n <= (SELECT max(n) FROM holds) - ?", (keep,))
        store.execute("COMMIT")
    except BaseException:
        store.execute("ROLLBACK")
        raise
    return held, repeated, bad


def all_partitions(consumer, topic, stopping):
    """Every partition of the topic, to be read on from the group's position; waits until the topic is there."""
    while not stopping:
        known = consumer.list_topics(topic, timeout=10).topics[topic]
        if known.partitions:
            return [TopicPartition(topic, partition) for partition in known.partitions]
        print(f"topic {topic} is not there yet; trying again", file=sys.stderr)
        time.sleep(0.5)
    return []


def serve(arguments):
    store = open_store(arguments.db)
    consumer = Consumer(
        {
            "bootstrap.servers": arguments.bootstrap,
            "group.id": arguments.group,
            # Under its old name a service that was killed gets its partitions back at once; else Kafka waits for the dead one.
            "group.instance.id": arguments.instance,
            # The position moves when the holds are on disk, and not before.
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    stopping = []
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.append(True))
    if arguments.alone:
        consumer.assign(all_partitions(consumer, arguments.topic, stopping))
    else:
        consumer.subscribe([arguments.topic])
    total = {"held": 0, "repeated": 0, "bad": 0}
    quiet_since = time.monotonic()
    try:
        while not stopping:
            messages = consumer.consume(arguments.batch, timeout=0.5)
            errors = [message.error() for message in messages if message.error()]
            if any(error.fatal() for error in errors):
                raise KafkaException(errors[0])
            messages = [message for message in messages if not message.error()]
            if not messages:
                for error in errors:
                    print(f"Kafka: {error}; trying again", file=sys.stderr)
                if arguments.idle_exit and time.monotonic() - quiet_since > arguments.idle_exit:
                    break
                continue
            counts = hold_all(store, messages, arguments.threshold, arguments.keep)
            # Killed between these two lines: the messages come again, and their ids are known.
            consumer.commit(asynchronous=False)
            quiet_since = time.monotonic()
            for name, count in zip(total, counts):
                total[name] += count
            print("{held} held, {repeated} repeated, {bad} bad".format(**total), flush=True)
    finally:
        consumer.close()
        store.close()


def list_holds(arguments):
    store = open_store(arguments.db)
    for score_id, payment_id, score, reasons in store.execute("SELECT score_id, payment_id, score, reasons FROM holds ORDER BY n"):
        print(json.dumps({"score_id": score_id, "payment_id": payment_id, "score": score, "reasons": json.loads(reasons)}))


def main():
    parser = argparse.ArgumentParser(description="Holds each payment whose fraud score is high, once.")
    parser.add_argument("--bootstrap", default="localhost:9092", help="Kafka's address (default: %(default)s)")
    parser.add_argument("--topic", default="fraud-scores", help="where the scores come from (default: %(default)s)")
    parser.add_argument("--group", default="fraud-service", help="consumer group (default: %(default)s)")
    parser.add_argument("--instance", default="fraud-service-1", help="name of this one among those of the group (default: %(default)s)")
    parser.add_argument("--alone", action="store_true", help="take all partitions, beside no other: the demo's broker knows no groups")
    parser.add_argument("--db", default="fraud-service.db", help="SQLite file with the holds (default: %(default)s)")
    parser.add_argument("--threshold", type=float, default=0.5, help="the least score that is acted on (default: %(default)s)")
    parser.add_argument("--keep", type=int, default=1_000_000, help="holds to remember (default: %(default)s, some 200 MB)")
    parser.add_argument("--batch", type=int, default=500, help="most messages in one transaction (default: %(default)s)")
    parser.add_argument("--idle-exit", type=float, metavar="SECONDS", help="end when nothing came for so long (default: never)")
    parser.add_argument("--list", action="store_true", help="print the holds and end")
    arguments = parser.parse_args()
    try:
        list_holds(arguments) if arguments.list else serve(arguments)
    except (sqlite3.Error, KafkaException) as error:
        sys.exit(f"fraud service: {error}; what was committed to {arguments.db} stands: correct it and start again")


if __name__ == "__main__":
    main()
