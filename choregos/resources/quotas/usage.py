"""What a namespace uses of what ResourceQuotas limit, computed from its objects. Pure.

What is declared for agents counts, replicas times needs of every template, from the moment they are stored; and where
a set's agents hold more than that, what they hold. Invariant: nothing that controllers do to make the declared state
true raises what is declared. So a cluster counts for what it declares also where one of its sets was scaled to less,
because deleting that set brings all of its agents back; where one was scaled to more, for that. A set counts as its
cluster's only by its name, which the cluster must ask for: whoever may write sets can also write who controls them.
What is being deleted declares nothing, but a set counts for what its agents hold until it is gone, and its object too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from choregos.resources import meta
from choregos.resources.expansion import Share, set_name, shares
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.resources.kinds.agentcluster import AGENTCLUSTER
from choregos.resources.kinds.agentset import AGENTSET
from choregos.resources.kinds.template import DEFAULT_CPU, DEFAULT_MEMORY
from choregos.resources.quantity import VALUE_MAX, Milli, format_binary, format_decimal, parse
from choregos.resources.quotas.names import AGENTS, CPU, DECLARED, GPU, MEMORY
from choregos.resources.registry import COUNTED

DECLARING = frozenset({AGENTCLUSTER.plural, AGENTSET.plural})
"""Resources whose objects declare agents."""

Objects = Callable[[str], Sequence[ReadOnlyObject]]
"""The objects of a resource, named by its plural, in one namespace."""

Identity = tuple[str, str]
"""Name and uid of a cluster: what a reference must have right to be one to it."""

share_name = lru_cache(maxsize=4096)(set_name)
"""What the set of a share is called: `share_name(cluster, template, region)`."""

_amount = lru_cache(maxsize=4096)(parse)
"""The same names and quantities are asked for again and again, and take longer to make than all else."""

ONE = 1000
"""One of anything, in thousandths."""

_DEFAULTS = {CPU: DEFAULT_CPU, MEMORY: DEFAULT_MEMORY, GPU: "0"}


def limits(quota: ReadOnlyObject) -> dict[str, str]:
    """What a quota limits, name by name; without names that another version knew."""
    hard: Mapping[str, str] = quota["spec"].get("hard") or {}
    return {name: amount for name, amount in hard.items() if name in DECLARED or name in COUNTED}


def used(names: Iterable[str], objects: Objects) -> dict[str, Milli]:
    """How much of each name is used, in thousandths.

    Args:
        names: those of `names.DECLARED` and `registry.COUNTED`.
    """
    wanted = set(names)
    return used_of(wanted, declared(objects) if wanted & DECLARED.keys() else {}, lambda each: len(objects(each)))


def used_of(names: Iterable[str], amounts: Mapping[str, Milli], count: Callable[[str], int]) -> dict[str, Milli]:
    """As `used`.

    Args:
        amounts: what is declared, if one of the names asks for that.
        count: how many objects there are of a resource.
    """
    return {name: amounts[DECLARED[name]] if name in DECLARED else count(COUNTED[name]) * ONE for name in names}


def declared(objects: Objects, written: str = "", *, held: bool = True) -> dict[str, Milli]:
    """The agents that are declared or there, and the cpu, memory and gpu that they need, in thousandths.

    This is the definition. `ledger.Ledger` comes to the same without looking at all objects again.

    Args:
        written: name of a set that somebody writes. It counts for no less than it says, because regions may see it
            before its cluster has made it what it declares.
        held: whether what agents hold counts where it is more than what is declared.
    """
    total = nothing()
    clusters = {
        identity_of(each["metadata"]): each for each in objects(AGENTCLUSTER.plural) if not meta.is_deleting(each)
    }
    controlled: dict[Identity, dict[str, ReadOnlyObject]] = {}
    for agent_set in objects(AGENTSET.plural):
        controller = controller_of(agent_set)
        if controller in clusters:
            controlled.setdefault(controller, {})[agent_set["metadata"]["name"]] = agent_set
        else:
            add(total, of_set(agent_set, held=held))
    for identity, cluster in clusters.items():
        sets = controlled.get(identity, {})
        for share in shares(cluster["spec"]):
            found = None
            if sets:
                name = share_name(cluster["metadata"]["name"], share.entry["name"], share.region)
                found = sets.pop(name, None)
            add(total, of_share(share) if found is None else of_set(found, share, written, held=held))
        for agent_set in sets.values():  # the cluster does not ask for them
            add(total, of_set(agent_set, held=held))
    return total


def declares_as(obj: ReadOnlyObject, previous: ReadOnlyObject) -> bool:
    """Whether a cluster or set declares and holds what it did before, as far as `declared` looks at it."""
    return (
        all(
            obj["metadata"].get(part) == previous["metadata"].get(part)
            for part in ("deletionTimestamp", "ownerReferences")
        )
        and _declared_replicas(obj) == _declared_replicas(previous)
        and bool(obj["spec"] == previous["spec"])
        and _held(obj) == _held(previous)
    )


def quota_status(quota: ReadOnlyObject, amounts: Mapping[str, Milli]) -> Object:
    """The status of a quota.

    Args:
        amounts: what is used of each of its names.
    """
    hard = limits(quota)
    return {"hard": hard, "used": {name: shown(name, amounts[name]) for name in sorted(hard)}}


def shown(name: str, amount: Milli) -> str:
    """An amount of a name as a quantity: `5`, `500m`, `64Mi`; one that is too large for a quantity as the largest."""
    amount = min(amount, VALUE_MAX * ONE)
    return format_binary(amount) if DECLARED.get(name) == MEMORY else format_decimal(amount)


def identity_of(named: Mapping[str, Any]) -> Identity:
    """Of a cluster's metadata, or of a reference to it."""
    return named["name"], named["uid"]


def controller_of(agent_set: ReadOnlyObject) -> Identity | None:
    """The cluster that it says controls it, whether there is one or not."""
    references = agent_set["metadata"].get("ownerReferences") or ()
    first = next((reference for reference in references if reference.get("controller")), None)
    return identity_of(first) if first is not None and first["kind"] == AGENTCLUSTER.kind else None


def nothing() -> dict[str, Milli]:
    """A total to add to."""
    return dict.fromkeys((AGENTS, *_DEFAULTS), 0)


def add(total: dict[str, Milli], amounts: Mapping[str, Milli], times: int = 1) -> None:
    """Adds amounts of every name; `times=-1` takes them off again."""
    for name, amount in amounts.items():
        total[name] += amount * times


def of_share(share: Share) -> dict[str, Milli]:
    """What a cluster declares by one of its shares."""
    return _needs(share.entry, share.replicas)


def of_set(
    agent_set: ReadOnlyObject, share: Share | None = None, written: str = "", *, held: bool = True
) -> dict[str, Milli]:
    """What a set counts for: of each name the larger of what is declared for it and what its agents hold.

    Args:
        share: that of the cluster which asks for it; none if it is on its own.
        written, held: as of `declared`.
    """
    if share is not None:
        amounts = _needs(share.entry, max(share.replicas, _scaled_to(agent_set, share, written)))
    else:
        replicas = 0 if meta.is_deleting(agent_set) else agent_set["spec"]["replicas"]
        amounts = _needs(agent_set["spec"]["template"], replicas)
    if not held:
        return amounts
    found = _held(agent_set)
    return {name: max(amount, _amount(found[name])) if name in found else amount for name, amount in amounts.items()}


def _scaled_to(agent_set: ReadOnlyObject, share: Share, written: str) -> int:
    """What somebody scaled the set of a share to; 0 if nobody did, or the cluster has declared another count since."""
    if meta.is_deleting(agent_set):
        return 0
    stays = _declared_replicas(agent_set) == str(share.replicas)
    return int(agent_set["spec"]["replicas"]) if stays or agent_set["metadata"]["name"] == written else 0


def _declared_replicas(agent_set: ReadOnlyObject) -> str | None:
    """What its cluster declared when somebody scaled it."""
    annotations: Mapping[str, str] = agent_set["metadata"].get("annotations") or {}
    return annotations.get(meta.DECLARED_REPLICAS_ANNOTATION)


def _held(agent_set: ReadOnlyObject) -> Mapping[str, str]:
    """What the agents of a set have asked for, those that drain included, as its region says; nothing of a cluster."""
    return (agent_set.get("status") or {}).get("allocated") or {}


def _needs(template: Mapping[str, Any], replicas: int) -> dict[str, Milli]:
    resources = template.get("resources") or {}
    needs = {name: replicas * _amount(resources.get(name, default)) for name, default in _DEFAULTS.items()}
    return {AGENTS: replicas * ONE, **needs}
