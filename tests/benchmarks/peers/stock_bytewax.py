"""The same engine as ours the way its manual has it: KafkaSource, one Avro datum at a time, fold_window, KafkaSink.

Arguments: bootstrap, input topic, output topic, directory for the recovery store. Prints how many readings were decoded,
once a second.
"""

import struct
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import bytewax.operators as op
import fastavro
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

SCHEMAS = Path(__file__).resolve().parents[3] / "schemas" / "avsc"
HEADER = 10
SCHEMA = fastavro.schema.load_schema(SCHEMAS / "Measurement.avsc")
ROW = struct.Struct("<qid")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FETCH = {"fetch.queue.backoff.ms": "5"}
"""The default of a second would stall it whenever the client's queue was full (engine.md 2)."""
QUARTER = timedelta(minutes=15)
decoded = count()


def reading(message: KafkaSourceMessage[bytes, bytes]) -> dict[str, Any]:
    next(decoded)
    stream = BytesIO(message.value)
    stream.seek(HEADER)
    return fastavro.schemaless_reader(stream, SCHEMA)


def fold(state: tuple[int, float], value: dict[str, Any]) -> tuple[int, float]:
    return state[0] + 1, state[1] + value["power_w"]


def row(item: tuple[str, tuple[int, tuple[int, float]]]) -> KafkaSinkMessage[bytes, bytes]:
    asset, (window, (number, total)) = item
    return KafkaSinkMessage(asset.encode(), ROW.pack(window * 900_000, number, total))


def flow(bootstrap: str, source: str, sink: str) -> Dataflow:
    made = Dataflow("stock")
    messages = op.input("in", made, KafkaSource([bootstrap], [source], add_config=FETCH, batch_size=1000))
    keyed = op.key_on("asset", op.map("decode", messages, reading), lambda one: one["asset_id"])
    clock = EventClock(lambda one: one["measured_at"], wait_for_system_duration=timedelta(seconds=60))
    windows = fold_window(
        "quarters",
        keyed,
        clock,
        TumblingWindower(QUARTER, EPOCH),
        lambda: (0, 0.0),
        fold,
        lambda one, other: (one[0] + other[0], one[1] + other[1]),
    )
    op.output("out", op.map("row", windows.down, row), KafkaSink([bootstrap], sink))
    return made


def tell() -> None:
    while True:
        time.sleep(1)
        print("progress", int(time.time() * 1000), repr(decoded)[6:-1], flush=True)


if __name__ == "__main__":
    threading.Thread(target=tell, daemon=True).start()
    store = Path(sys.argv[4]) / "recovery"
    store.mkdir(parents=True)
    init_db_dir(store, 1)
    cli_main(flow(*sys.argv[1:4]), epoch_interval=timedelta(seconds=10), recovery_config=RecoveryConfig(store))
