"""How far a log has come, for readers that must not miss what somebody else was told before they asked.

Invariant: an answer is at least as new as the question; a question that is under way does not answer one that came
after it, so at most one is asked and one waits, however many readers there are.
"""

from __future__ import annotations

import asyncio

from choregos.foundation.errors import ChoregosError
from choregos.foundation.tasks import Tasks
from choregos.store.port import RecordLog


class Freshness:
    """Asks a log for its newest sequence, until `close`."""

    def __init__(self, log: RecordLog) -> None:
        self._log = log
        self._tasks = Tasks()
        self._asking = False
        self._next: asyncio.Future[int] | None = None

    async def close(self) -> None:
        await self._tasks.close()
        if self._next is not None:
            self._next.cancel()

    async def newest(self) -> int:
        """As `RecordLog.newest`. Raises: Temporary."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        answer = self._next
        if not self._asking:
            self._asking = True
            self._tasks.start(self._ask(), "ask for the newest record", eager=True)
        return await asyncio.shield(answer)

    async def _ask(self) -> None:
        try:
            while self._next is not None:
                answer, self._next = self._next, None
                try:
                    answer.set_result(await self._log.newest())
                except ChoregosError as error:
                    answer.set_exception(error)
                    answer.exception()  # whoever asked may have gone
                except BaseException:
                    answer.cancel()
                    raise
        finally:
            self._asking = False
