"""The server's half of how a benchmark speaks with the processes it measures: a JSON object per line, answered in turn.

Standard library only. Whatever a library prints goes to stderr, so that it does not come between the answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Answer = dict[str, Any]


async def serve_lines(handle: Callable[[Any], Awaitable[Answer]]) -> None:
    """Says that it is ready, then answers each line until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with answers:
        answers.write("{}\n")
        while line := await asyncio.to_thread(sys.stdin.readline):
            answers.write(json.dumps(await handle(json.loads(line))) + "\n")
