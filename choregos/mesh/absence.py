"""Why no agent can be called: the sentence that a caller reads in `NoAgent`.

Runs on every failed resolution, so it looks at a bounded number of names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice

from choregos.mesh.routes import Target
from choregos.mesh.selection import Selection
from choregos.resources.meta import TEMPLATE_LABEL
from choregos.store.directory import Directory
from choregos.store.instance import Instance

NAMES_COMPARED_MAX = 500
STATES_COUNTED_MAX = 1000


def explain(directory: Directory, target: Target, selection: Selection) -> str:
    if target.agent:
        return _agent(directory, target)
    ready = directory.with_capability(target.namespace, target.capability)
    if ready:
        return f"{len(ready)} agents in {target.namespace} have {target.capability}, none matches {target.selector}"
    declaring = {
        template.name
        for (namespace, _), template in directory.templates.items()
        if namespace == target.namespace and target.capability in template.capabilities
    }
    if declaring:
        waiting = directory.with_labels(target.namespace, lambda labels: labels.get(TEMPLATE_LABEL) in declaring)
        return f"no agent with {target.capability} is ready in {target.namespace}: {_states(waiting)}"
    message = f"no agent in {target.namespace} has {target.capability}"
    return message + _suggestion(target.capability, directory.capabilities(target.namespace))


def _agent(directory: Directory, target: Target) -> str:
    instance = directory.find(target.namespace, target.agent)
    if instance is None:
        message = f"there is no agent {target.agent} in {target.namespace}"
        # Names of a set differ in their ends, so the beginning finds the nearest.
        stem = target.agent[:3]
        names = (each.name for each in directory.list(target.namespace) if each.name.startswith(stem))
        return message + _suggestion(target.agent, islice(names, NAMES_COMPARED_MAX))
    if instance.ready:
        return f"agent {target.agent} does not match {target.selector}"
    return f"agent {target.agent} is not ready: {_state(instance)}"


def _state(instance: Instance) -> str:
    """`BackOff: StartFailed: no such model`: phase, reason and first line of the message, as far as there are any."""
    source = instance.status if instance.status is not None else instance.record
    first_line = source.message.strip().partition("\n")[0]
    phase = "Terminating" if instance.record.deletion_ms else instance.phase.value
    return ": ".join(part for part in (phase, source.reason, first_line) if part)


def _states(instances: Iterable[Instance]) -> str:
    counts = Counter(_state(instance) for instance in islice(instances, STATES_COUNTED_MAX))
    return "; ".join(f"{count} × {state}" for state, count in counts.most_common(3)) or "none exists yet"


def _suggestion(wanted: str, there: Iterable[str]) -> str:
    near = get_close_matches(wanted, list(there), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else ""
