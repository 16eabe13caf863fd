"""What the agents of a template ask of a node, parsed once per template.

Invariant: a template is named by its content, so what was parsed of a digest stays true. Does not fetch templates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from choregos.resources.quantity import parse_all
from choregos.scheduling.snapshot import Needs, Toleration

_PARSED_MAX = 4096


def parse_needs(spec: Mapping[str, Any]) -> Needs:
    """From a template as validation leaves it: resources and placement."""
    placement = spec.get("placement") or {}
    tolerations = (
        Toleration(
            entry.get("key") or "",
            entry.get("operator") or "Equal",
            entry.get("value") or "",
            entry.get("effect") or "",
            entry.get("tolerationSeconds"),
        )
        for entry in placement.get("tolerations") or ()
    )
    return Needs(
        parse_all(spec.get("resources") or {}),
        dict(placement.get("nodeSelector") or {}),
        tuple(tolerations),
    )


class NeedsBook:
    """Needs by template.

    Args:
        spec_of: the template's spec by (namespace, digest); empty while its record is not known.
    """

    def __init__(self, spec_of: Callable[[str, str], Mapping[str, Any]]) -> None:
        self._spec_of = spec_of
        self._needs: dict[str, tuple[Needs, Mapping[str, int]]] = {}

    def learn(self, digest: str, spec: Mapping[str, Any]) -> None:
        """Takes a template that is about to be written; one that is known costs nothing."""
        if digest in self._needs:
            return
        if len(self._needs) >= _PARSED_MAX:
            self._needs.clear()  # what is still in use is parsed again
        needs = parse_needs(spec)
        self._needs[digest] = (needs, needs.demand())

    def needs(self, namespace: str, digest: str) -> Needs:
        return self._find(namespace, digest)[0]

    def demand(self, namespace: str, digest: str) -> Mapping[str, int]:
        """What one agent takes from its node, its place included."""
        return self._find(namespace, digest)[1]

    def _find(self, namespace: str, digest: str) -> tuple[Needs, Mapping[str, int]]:
        found = self._needs.get(digest)
        if found is None:
            spec = self._spec_of(namespace, digest)
            if not spec:
                unknown = Needs()
                return unknown, unknown.demand()
            self.learn(digest, spec)
            found = self._needs[digest]
        return found
