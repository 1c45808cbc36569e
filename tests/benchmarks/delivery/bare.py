"""What the same messages take that nothing is done for but to send them: httpx alone, so many at a time to each partner.

`python -m tests.benchmarks.delivery.bare FILE`: a JSON list of partners, each a list of {url, headers, body}; prints the seconds.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import uvloop

AT_ONCE = 8


async def sent(partners: list[list[dict[str, Any]]]) -> float:
    """Send all; RuntimeError for an answer that is not 204."""
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    clients = [httpx.AsyncClient(limits=limits, timeout=30.0) for _ in partners]
    began = time.perf_counter()

    async def worker(client: httpx.AsyncClient, left: list[dict[str, Any]]) -> None:
        while left:
            one = left.pop()
            answer = await client.post(one["url"], headers=one["headers"], content=one["body"])
            if answer.status_code != 204:
                raise RuntimeError(f"answered {answer.status_code}")

    await asyncio.gather(*(worker(client, left) for client, left in zip(clients, partners, strict=True) for _ in range(AT_ONCE)))
    seconds = time.perf_counter() - began
    for client in clients:
        await client.aclose()
    return seconds


if __name__ == "__main__":
    print(uvloop.run(sent(json.loads(Path(sys.argv[1]).read_text()))))
