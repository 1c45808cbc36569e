"""A process that wants a lease, for tests that kill it: `python -m tests.kafka.lease_holder BOOTSTRAP PREFIX NAME`.

Says `stands by`, `held`, `lost`; while it holds the lease it says `acts` every 10 ms, as one that sends would.
"""

import sys
import threading
import time

from sinks.lease import Spokesman
from sinks.lease_kafka import KafkaLease
from sinks.settings import KafkaSettings


def say(word: str) -> None:
    print(f"{time.monotonic():.4f} {word}", flush=True)


def main() -> None:
    bootstrap, prefix, name = sys.argv[1:]
    settings = KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix, replication=1, min_insync=1)
    told = Spokesman(lambda words: say(f"stands by: {words}"), lambda words: say(f"lost: {words}"), lambda before: f"store of {name}")
    lease = KafkaLease(settings, name, told)
    lease.acquire(threading.Event())
    say("held")
    while not lease.lost():
        if lease.held():
            say("acts")
        time.sleep(0.01)
    lease.release()


if __name__ == "__main__":
    main()
