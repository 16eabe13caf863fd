"""Nobody grants what he does not hold: what writers of roles and bindings pass besides the gate.

As in Kubernetes: whoever writes a role holds its rules already, or may `escalate` it; whoever binds a role holds its
rules already, or may `bind` it. Invariant: a write that grants nothing new, such as one of labels, is not asked about.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from choregos.api.access.gate import Gate
from choregos.api.access.grants import EVERYTHING
from choregos.api.rules.status import Refusal
from choregos.resources.kind import Kind, ReadOnlyObject
from choregos.resources.kinds.rbac.binding import CLUSTERROLEBINDING, ROLEBINDING
from choregos.resources.kinds.rbac.role import CLUSTERROLE, GROUP, ROLE
from choregos.security import rbac
from choregos.security.rbac import Attributes, Rule, User

_GRANTED = {
    ROLE.kind: ("rules",),
    CLUSTERROLE.kind: ("rules", "aggregationRule"),
    ROLEBINDING.kind: ("subjects", "roleRef"),
    CLUSTERROLEBINDING.kind: ("subjects", "roleRef"),
}
"""The parts of each kind that grant something."""

_SHOWN_MAX = 10


def check(gate: Gate, user: User, kind: Kind, obj: ReadOnlyObject, previous: ReadOnlyObject | None) -> None:
    """
    Args:
        obj: as it would be stored.
        previous: as it is stored; None if it is new.

    Raises:
        Refusal: 403, it grants rules that `user` does not hold; 404, nobody knows what it grants.
    """
    parts = _GRANTED.get(kind.kind) if kind.group == GROUP else None
    if parts is None or (previous is not None and all(previous.get(part) == obj.get(part) for part in parts)):
        return
    namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
    if "rules" in parts:
        granted: Sequence[Rule] | None = rbac.rules(obj.get("rules"))
        if obj.get("aggregationRule"):
            granted = EVERYTHING  # what the roles will be that it selects, nobody knows
        wanted = _about("escalate", kind.plural, namespace, name)
    else:
        granted, wanted = _bound(gate, obj, namespace)
    if gate.grants.decide(user, wanted).allowed:
        return
    if granted is None:
        role = f"{wanted.resource}.{GROUP}"
        raise Refusal(
            404, "NotFound", f'{role} "{wanted.name}" not found, and who may not "bind" it must hold its rules'
        )
    lacking = rbac.uncovered(gate.grants.rules_of(user, namespace), granted)
    if lacking:
        raise Refusal(403, "Forbidden", _words(user, kind, name, lacking, wanted))


def _bound(gate: Gate, binding: ReadOnlyObject, namespace: str) -> tuple[Sequence[Rule] | None, Attributes]:
    """The rules that a binding grants, None if its role does not exist; and what allows to bind it anyway."""
    role = rbac.role_key(binding)
    resource = CLUSTERROLE.plural if role is None or not role[0] else ROLE.plural
    wanted = _about("bind", resource, namespace, role[1] if role is not None else "")
    return (None if role is None else gate.grants.rules_in(role)), wanted


def _about(verb: str, resource: str, namespace: str, name: str) -> Attributes:
    return Attributes(verb, group=GROUP, version="v1", resource=resource, namespace=namespace, name=name)


def _words(user: User, kind: Kind, name: str, lacking: Sequence[Rule], wanted: Attributes) -> str:
    rules = [msgspec.json.encode(rule.document()).decode() for rule in lacking[:_SHOWN_MAX]]
    if len(lacking) > _SHOWN_MAX:
        rules.append(f"and {len(lacking) - _SHOWN_MAX} more")
    return (
        f'{kind.plural}.{GROUP} "{name}" is forbidden: user "{user.name}" is attempting to grant RBAC permissions not '
        f"currently held: {', '.join(rules)}; who holds them, or may {wanted.verb} {wanted.resource}, can"
    )
