"""Whether the quotas of a namespace let an object be stored. Pure: the API server obeys, and stores what they then say.

Invariant: only what a write raises is compared with a limit, so whoever is over one may always go down, and change what
has nothing to do with it. A write raises what it declares more of, although the agents that are there may hold as much
already: or who has some drain could declare as many again, and again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from choregos.resources.kind import Object, ReadOnlyObject
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.quantity import Milli, parse_all
from choregos.resources.quotas.ledger import Ledger
from choregos.resources.quotas.names import DECLARED
from choregos.resources.quotas.usage import DECLARING, limits, quota_status, shown
from choregos.resources.registry import COUNTED


@dataclass(frozen=True, slots=True)
class Admission:
    """
    Attributes:
        quotas: those of which the write uses more, with the status they have once it is done. They are to be stored
            with it, each as it was read, or two writes could both take what only one can have.
        excesses: why it may not be done, in Kubernetes' words; empty if it may.
    """

    quotas: Sequence[Object]
    excesses: Sequence[str]


def bounds(quota: ReadOnlyObject, resource: str) -> bool:
    """Whether it limits something that an object of this resource can use."""
    return any(_uses(resource, name) for name in limits(quota))


def admission(quotas: Iterable[Object], resource: str, obj: ReadOnlyObject, ledger: Ledger) -> Admission:
    """What storing `obj`, new or changed, means to the quotas of its namespace.

    Args:
        ledger: of the namespace, as it is before; so it is left.
    """
    concerned = [quota for quota in quotas if bounds(quota, resource)]
    names = {name for quota in concerned for name in limits(quota)}
    name = obj["metadata"]["name"]
    written = name if resource == AGENTSET.plural else ""
    settled_before, before = ledger.used(names), ledger.used(names, written)
    declared_before = ledger.used(names, written, held=False)
    previous = ledger.replace(resource, name, obj)
    settled_after, after = ledger.used(names), ledger.used(names, written)
    declared_after = ledger.used(names, written, held=False)
    ledger.replace(resource, name, previous)
    # What a set said and its cluster was about to take back has not counted yet, if this write makes it stay.
    before = {
        name: settled_before[name] if settled_after[name] > settled_before[name] else before[name] for name in names
    }
    rises = {name: max(after[name] - before[name], declared_after[name] - declared_before[name]) for name in names}
    rising = {name for name in names if rises[name] > 0}
    kept, excesses = [], []
    for quota in concerned:
        most = parse_all(limits(quota))
        over = sorted(name for name in rising & most.keys() if after[name] > most[name])
        if over:
            excesses.append(
                f"exceeded quota: {quota['metadata']['name']}, requested: {_listed(over, rises)}, "
                f"used: {_listed(over, before)}, limited: {_listed(over, most)}"
            )
        elif rising & most.keys():
            kept.append({**quota, "status": quota_status(quota, after)})
    return Admission(kept, excesses)


def _uses(resource: str, name: str) -> bool:
    return resource in DECLARING if name in DECLARED else COUNTED.get(name) == resource


def _listed(names: Iterable[str], amounts: Mapping[str, Milli]) -> str:
    return ",".join(f"{name}={shown(name, amounts[name])}" for name in names)
