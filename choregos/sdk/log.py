"""`self.log`: Python's logging, with the agent's identity and fields by name.

Records go to the logger `choregos.agents` with the attributes `agent_uid`, `agent` (`namespace/name`) and `fields`
(a dict); a worker's handler sends them to its node, anybody else's sees them as ordinary records.
"""

from __future__ import annotations

import logging
from typing import Any

from choregos.messaging.tracebacks import type_name
from choregos.sdk.context import AgentContext

logger = logging.getLogger("choregos.agents")

_OWN = frozenset({"exc_info", "stack_info", "stacklevel", "extra"})


class AgentLog(logging.LoggerAdapter[logging.Logger]):
    """`log.info("answered %s", question, order=7)`: keyword arguments become fields of the record."""

    def __init__(self, context: AgentContext) -> None:
        super().__init__(logger, None)
        self._context = context

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        if not self.isEnabledFor(level):
            return
        fields = {name: kwargs.pop(name) for name in tuple(kwargs) if name not in _OWN}
        context = self._context
        kwargs["extra"] = {
            **(kwargs.get("extra") or {}),
            "agent_uid": context.uid,
            "agent": f"{context.namespace}/{context.name}",
            "fields": fields,
        }
        # One more, so that the record names the author's line and not this one.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        if fields:
            shown = " ".join(f"{name}={_shown(value)}" for name, value in fields.items())
            # With arguments the message is a format, in which the fields' percent signs must stay what they are.
            msg = f"{msg} {shown.replace('%', '%%') if args else shown}"
        self.logger.log(level, msg, *args, **kwargs)


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # a line of log is no reason to fail
        return f"<{type(value).__name__} whose repr raises {type_name(error)}>"
