"""A process of clients of an API server: each with a connection of its own that it keeps, one request at a time.

Connections are made anew for each measurement, before it begins: a server may close those that were idle meanwhile.
Arguments: URL, CA file, certificate and key as one file, objects stored, prefix for names.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.api.http_connection import HttpConnection, client_tls, open_connection
from benchmarks.api.objects import KINDS
from benchmarks.api.operations import OPERATIONS, Ground
from benchmarks.lines import Answer, serve_lines
from benchmarks.timing import sequential_us


async def _measure(command: Any, clients: Sequence[HttpConnection], ground: Ground) -> Answer:
    """Attributes of the answer: each request's time, when the whole began and ended, and what it cost this process."""
    make, kind, each = OPERATIONS[command["operation"]], KINDS[command["kind"]], command["each"]
    used, began = time.process_time(), time.monotonic()
    took = await asyncio.gather(*(sequential_us(make(client, kind, ground), each) for client in clients))
    ended = time.monotonic()
    return {
        "took_us": [round(each_us, 1) for of_client in took for each_us in of_client],
        "began": began,
        "ended": ended,
        "processor_s": time.process_time() - used,
    }


async def main() -> None:
    url, authority, identity, objects, prefix = sys.argv[1:]
    tls = client_tls(Path(authority), Path(identity))
    ground = Ground(int(objects), prefix)

    async def handle(command: Any) -> Answer:
        async with AsyncExitStack() as stack:
            opening = (stack.enter_async_context(open_connection(url, tls)) for _ in range(command["clients"]))
            return await _measure(command, await asyncio.gather(*opening), ground)

    await serve_lines(handle)


if __name__ == "__main__":
    uvloop.run(main())
