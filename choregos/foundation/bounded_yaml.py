"""YAML whose nesting and aliases are bounded: what is short to write is not long to read.

libyaml takes minutes for 300,000 brackets, overflows the stack while it makes nodes of them, and lets an alias that
costs two bytes stand for gigabytes. So nodes are composed here, from libyaml's events one by one, and the first event
beyond a bound ends it. Invariant: what has been composed is at most `DEPTH_MAX` deep, and its aliases stand for at most
`ALIASED_SIZE_MAX` in all, so whoever takes it apart, or encodes it, needs no bound of its own.

Does not bound the text itself: who reads it knows how much there may be.
"""

from __future__ import annotations

from typing import Any

from yaml import CSafeLoader
from yaml.composer import Composer, ComposerError
from yaml.events import AliasEvent
from yaml.nodes import Node, ScalarNode

DEPTH_MAX = 100
"""Lists and objects within one another; manifests have about ten."""

ALIASED_SIZE_MAX = 4 * 1024 * 1024
"""What all aliases of a document may stand for: characters of scalars, and one for each value. The API server takes no
request that is longer than that."""


class BoundedLoader(Composer, CSafeLoader):
    """Composes in Python what libyaml has parsed; raises `ComposerError` at the place where a bound is passed.

    An anchor may be given again, and means the latest from then on (YAML 1.2.2, 7.1), as for kubectl.
    """

    def __init__(self, stream: str | bytes) -> None:
        CSafeLoader.__init__(self, stream)
        Composer.__init__(self)
        self._depth = 0
        self._size = 0
        self._aliased_size = 0
        self._sizes: dict[str, int] = {}  # by anchor, once its node is complete

    def compose_document(self) -> Node | None:
        self._depth = self._size = self._aliased_size = 0
        self._sizes.clear()
        return super().compose_document()

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event: Any = self.peek_event()
        if isinstance(event, AliasEvent):
            self._add_alias(event)
            return super().compose_node(parent, index)
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise _refusal(f"lists and objects are nested deeper than {DEPTH_MAX} levels", event)
        self.anchors.pop(event.anchor, None)
        self._sizes.pop(event.anchor, None)
        before = self._size
        node = super().compose_node(parent, index)
        self._size += 1 + (len(node.value) if isinstance(node, ScalarNode) else 0)
        if event.anchor:
            self._sizes[event.anchor] = self._size - before
        self._depth -= 1
        return node

    def _add_alias(self, event: Any) -> None:
        size = self._sizes.get(event.anchor)
        if size is None:
            if event.anchor in self.anchors:
                raise _refusal(f"the alias *{event.anchor} stands within what it stands for", event)
            return  # nobody has that anchor: the composer says so
        self._size += size
        self._aliased_size += size
        if self._aliased_size > ALIASED_SIZE_MAX:
            raise _refusal(f"the aliases up to here stand for more than {ALIASED_SIZE_MAX} characters", event)


def _refusal(why: str, event: Any) -> ComposerError:
    return ComposerError(None, None, why, event.start_mark)
