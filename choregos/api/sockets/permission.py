"""Whether something may be begun beside an agent: the namespace must allow it, and the agent must be in a worker."""

from __future__ import annotations

from choregos.api.requests import ApiRequest
from choregos.api.rules.status import Refusal, bad_request
from choregos.foundation.errors import NotFound
from choregos.resources import meta
from choregos.store.instance import Instance

ALLOWED_LABEL, ALLOWED = f"{meta.GROUP}/exec", "allowed"
"""On a namespace: whoever has the role for it may run commands beside its agents, and connect to their ports."""


def require_allowed(call: ApiRequest) -> None:
    """Raises: Refusal 403, the namespace does not allow it."""
    name = call.target.namespace
    try:
        labels = call.context.resources.get("namespaces", "", name)["metadata"].get("labels") or {}
    except NotFound:
        labels = {}
    if labels.get(ALLOWED_LABEL) != ALLOWED:
        raise Refusal(
            403,
            "Forbidden",
            f'{call.kind.plural} "{call.name}" is forbidden: commands beside agents, and connections to their ports, '
            f'are off in namespace "{name}"; who may change it allows them with: '
            f"kubectl label namespace {name} {ALLOWED_LABEL}={ALLOWED}",
        )


def require_worker(call: ApiRequest, instance: Instance, what: str) -> None:
    """Raises: Refusal 400, the agent is in no worker process.

    Args:
        what: is to be begun: `exec into`.
    """
    if not instance.record.node or instance.status is None or not instance.status.host:
        phase = instance.phase.value if instance.status is None else instance.status.reason or instance.phase.value
        kind = call.kind.singular
        raise bad_request(f"cannot {what} {kind} {call.name}: its agent is in no worker process now ({phase})")
