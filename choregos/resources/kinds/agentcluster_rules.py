"""What makes an AgentCluster right that CEL cannot say, and what its author should be told.

The names of AgentSets are made from words of the manifest: in lower case, every run of other characters as one `-`,
plurals as singulars if the manifest knows those. CEL can do neither, nor tell at which of two entries a name is taken.

`rules` sees the object as it came, before its types were checked, so that one answer lists every fault: what has not
the expected type is passed over here, the model reports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from choregos.foundation.errors import FieldError
from choregos.resources import expansion, names, quantity
from choregos.resources.kind import ReadOnlyObject
from choregos.resources.rules.rule import DUPLICATE, INVALID

_MEBIBYTE = quantity.parse("1Mi")


def rules(obj: ReadOnlyObject) -> Iterator[FieldError]:
    spec = _mapping(obj.get("spec"))
    yield from _name_faults(_mapping(obj.get("metadata")).get("name"), spec)
    yield from _duplicate_types(spec)


def _mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _named_entries(value: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, entry) of those entries of a list that are objects with a name."""
    for index, entry in enumerate(value if isinstance(value, list) else ()):
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            yield f"{path}[{index}]", entry


def _name_faults(cluster: Any, spec: Mapping[str, Any]) -> Iterator[FieldError]:
    """Every set's name must fit, with an ordinal behind it, and be its own."""
    if not isinstance(cluster, str) or not cluster:
        return
    taken: dict[str, str] = {}
    for path, template, region in _set_parts(spec):
        name = expansion.set_name(cluster, template, region)
        if len(name) > names.SET_NAME_LENGTH_MAX:
            excess = (
                f"has {len(name)} characters, at most {names.SET_NAME_LENGTH_MAX} leave room for the number of an agent"
            )
            yield FieldError(path, f"makes the AgentSet name {name!r}, which {excess}", INVALID)
        if name in taken and taken[name] != path:
            yield FieldError(path, f"makes the AgentSet name {name!r}, as {taken[name]} does", DUPLICATE)
        taken.setdefault(name, path)


def _set_parts(spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(path, template, region) of every set the manifest makes, in any shape, as far as it can be read."""
    needs = _mapping(spec.get("resource_management"))
    if spec.get("agents") is not None:
        for path, entry in _named_entries(spec["agents"], "spec.agents"):
            yield f"{path}.name", entry["name"], ""
    elif spec.get("regions") is not None:
        for path, region in _named_entries(spec["regions"], "spec.regions"):
            types = {
                expansion.agent_type(plural, needs): f"{path}.agent_distribution.{plural}"
                for plural in _mapping(region.get("agent_distribution"))
                if isinstance(plural, str)
            }
            for type_name, type_path in types.items():
                yield type_path, type_name, region["name"]
    else:
        for type_name in needs:
            if isinstance(type_name, str):
                yield f"spec.resource_management.{type_name}", type_name, ""


def _duplicate_types(spec: Mapping[str, Any]) -> Iterator[FieldError]:
    needs = _mapping(spec.get("resource_management"))
    for path, region in _named_entries(spec.get("regions"), "spec.regions"):
        seen: dict[str, str] = {}
        for plural in _mapping(region.get("agent_distribution")):
            if not isinstance(plural, str):
                continue
            type_name = expansion.agent_type(plural, needs)
            if type_name in seen:
                message = f"counts {type_name!r}, as {seen[type_name]!r} does"
                yield FieldError(f"{path}.agent_distribution.{plural}", message, DUPLICATE)
            seen.setdefault(type_name, plural)


def advice(obj: ReadOnlyObject) -> Iterator[str]:
    """Warnings for a valid object: what is accepted and probably not meant."""
    spec = obj["spec"]
    yield from _count_advice(spec)
    yield from _unused_types(spec)
    if spec.get("orchestrator"):
        yield "spec.orchestrator: stored as a description; control has the levels fleet, region and node in any case"
    if (spec.get("auto_scaling") or {}).get("enabled"):
        yield "spec.auto_scaling: stored; nothing scales by it in this version"
    for index, entry in enumerate(spec.get("agents") or ()):
        yield from _memory_advice(entry.get("resources") or {}, f"spec.agents[{index}].resources.memory")
    for type_name, resources in (spec.get("resource_management") or {}).items():
        yield from _memory_advice(resources, f"spec.resource_management.{type_name}.memory")


def _count_advice(spec: Mapping[str, Any]) -> Iterator[str]:
    replicas = spec.get("replicas")
    if replicas is None or (spec.get("agents") is None and spec.get("regions") is None):
        return
    total = sum(share.replicas for share in expansion.shares(spec))
    if total != replicas:
        what = "templates" if spec.get("agents") is not None else "regions' distributions"
        yield f"spec.replicas: {replicas}, but the {what} add up to {total}; {total} agents will run"


def _unused_types(spec: Mapping[str, Any]) -> Iterator[str]:
    if spec.get("regions") is None:
        return
    used = {share.entry["name"] for share in expansion.shares(spec)}
    for type_name in spec.get("resource_management") or ():
        if type_name not in used:
            yield f"spec.resource_management.{type_name}: no region's agent_distribution counts this type"


def _memory_advice(resources: Mapping[str, Any], path: str) -> Iterator[str]:
    memory = resources.get("memory", 0)
    if 0 < quantity.parse(memory) < _MEBIBYTE:
        yield f"{path}: {memory} is {memory} bytes, less than 1Mi; was a unit such as Mi or Gi left out?"
