"""Tells events of the agents here, in the terms of `kubectl describe`. Counting and limits are the recorder's."""

from __future__ import annotations

from choregos.agent.contract import HostEvent
from choregos.control.events import EventRecorder
from choregos.resources.events import reference


class HostEvents:
    """Turns what the host tells into events: of an agent, or of the node if it is about a worker."""

    def __init__(self, recorder: EventRecorder, node: str) -> None:
        self._recorder = recorder
        self._node = node

    def tell(self, event: HostEvent) -> None:
        """Returns at once."""
        if event.name:
            about = reference("Agent", event.name, namespace=event.namespace, uid=event.uid)
        else:
            about = reference("AgentNode", self._node)
        self._recorder.record_reference(about, event.reason, event.message, type=event.type)
