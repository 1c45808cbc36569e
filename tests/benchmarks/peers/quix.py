"""Quix Streams: a tumbling window with RocksDB state and changelog, closed by the partition's time, delivered at least once.

Runs in an interpreter of its own (quix-requirements.txt). Arguments: bootstrap, input topic, output topic, directory for
state. Prints how many readings were decoded, once a second.
"""

import struct
import sys
import threading
import time
from itertools import count

from quixstreams import Application
from quixstreams.dataframe.windows.aggregations import Count, Sum
from quixstreams.models import Deserializer, Serializer

ROW = struct.Struct("<qid")
POWER = struct.Struct("<d")
decoded = count()


class Readings(Deserializer):
    """By hand at fixed places: the cheapest Python there is. The key is the asset's id."""

    def __call__(self, value, ctx):
        next(decoded)
        at = 11 + value[10] // 2
        bits = 0
        for place in range(6):
            bits |= (value[at + place] & 0x7F) << 7 * place
        return {"at": bits >> 1, "power": POWER.unpack_from(value, at + 7)[0]}


class Rows(Serializer):
    def __call__(self, value, ctx):
        return ROW.pack(value["start"], value["count"], value["sum"])


def tell():
    while True:
        time.sleep(1)
        print("progress", int(time.time() * 1000), repr(decoded)[6:-1], flush=True)


if __name__ == "__main__":
    bootstrap, source, sink, directory = sys.argv[1:5]
    threading.Thread(target=tell, daemon=True).start()
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"{source}-quix",
        auto_offset_reset="earliest",
        state_dir=directory,
        loglevel="WARNING",
        auto_create_topics=True,
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
        producer_extra_config={"compression.type": "lz4"},
    )
    readings = app.topic(source, value_deserializer=Readings(), timestamp_extractor=lambda value, headers, at, kind: value["at"])
    rows = app.topic(sink, value_serializer=Rows())
    frame = app.dataframe(readings)
    frame = (
        frame.tumbling_window(duration_ms=900_000, grace_ms=60_000).agg(count=Count(), sum=Sum("power")).final(closing_strategy="partition")
    )
    frame.to_topic(rows)
    app.run()
