"""The floor: what the client alone costs in Python. Consumes single messages, touches each value, does nothing else.

Arguments: bootstrap, topic, number of messages. Prints when (ms since 1970) the first came and when the last had come,
and the CPU seconds used in between.
"""

import json
import os
import sys
import time

from confluent_kafka import Consumer, TopicPartition

bootstrap, topic, wanted = sys.argv[1], sys.argv[2], int(sys.argv[3])
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": "floor",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": 32 * 1024,
    }
)
consumer.assign([TopicPartition(topic, partition, 0) for partition in range(16)])
count = 0
began = begun_cpu = 0.0
while count < wanted:
    messages = consumer.consume(10_000, 0.005)
    if messages and not began:
        began, begun_cpu = time.time(), sum(os.times()[:2])
        wanted -= len(messages)
        continue
    for message in messages:
        message.value()
    count += len(messages)
print(
    json.dumps(
        {
            "began": began,
            "ended": time.time(),
            "cpu_s": sum(os.times()[:2]) - begun_cpu,
            "messages": count,
        }
    ),
    flush=True,
)
consumer.close()
