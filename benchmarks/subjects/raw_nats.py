"""Request and reply with nats-py alone, between two processes: what a call of ours is made of, so its limit.

    raw_nats.py respond|request SUBJECT SERVER USER     (the password is the first line of standard input)

On uvloop, as workers are.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import nats
import uvloop
from nats.aio.msg import Msg

from benchmarks.lines import Answer, serve_lines
from benchmarks.timing import PAYLOAD, call_figures

TIMEOUT_S = 30


async def main(role: str, subject: str, server: str, user: str) -> None:
    password = json.loads(sys.stdin.readline())
    client: Any = await nats.connect(server, user=user, password=password, inbox_prefix=f"_INBOX_{user}")

    async def respond(message: Msg) -> None:
        await message.respond(message.data)

    async def handle(command: dict[str, int]) -> Answer:
        return await call_figures(
            lambda: client.request(subject, PAYLOAD, timeout=TIMEOUT_S), command["calls"], command["in_flight"]
        )

    if role == "respond":
        await client.subscribe(subject, cb=respond)
        await client.flush()
    await serve_lines(handle)
    await client.close()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
