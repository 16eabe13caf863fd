"""What makes an AgentCluster right beyond its single fields, and what its author should be told.

`rules` sees the object as it came, before its types were checked, so that one answer lists every fault: what has not
the expected type is passed over here, the model reports it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from choregos.foundation.errors import FieldError
from choregos.resources import expansion, names, percent, quantity
from choregos.resources.kind import ReadOnlyObject
from choregos.resources.kinds.template_rules import mapping, named_entries, strategy_faults, template_faults

FORBIDDEN, REQUIRED, DUPLICATE, INVALID = (
    "FieldValueForbidden",
    "FieldValueRequired",
    "FieldValueDuplicate",
    "FieldValueInvalid",
)
_MEBIBYTE = quantity.parse("1Mi")


def rules(obj: ReadOnlyObject) -> Iterator[FieldError]:
    spec = mapping(obj.get("spec"))
    yield from _shape_faults(spec)
    for path, entry in named_entries(spec.get("agents"), "spec.agents"):
        yield from template_faults(entry, path)
        yield from _reserved_labels(entry, path)
        yield from strategy_faults(entry.get("strategy"), f"{path}.strategy")
    yield from _name_faults(mapping(obj.get("metadata")).get("name"), spec)
    yield from _duplicate_types(spec)
    yield from _scaling_faults(mapping(spec.get("auto_scaling")))


def _shape_faults(spec: Mapping[str, Any]) -> Iterator[FieldError]:
    if spec.get("agents") is not None:
        for field in ("regions", "resource_management"):
            if spec.get(field) is not None:
                yield FieldError(f"spec.{field}", "may not be used together with spec.agents", FORBIDDEN)
        return
    if spec.get("regions") is not None:
        return
    if not spec.get("resource_management") or spec.get("replicas") is None:
        expected = "spec.agents, or spec.regions, or spec.replicas with spec.resource_management"
        yield FieldError("spec", f"says nothing about which agents there shall be; needs {expected}", REQUIRED)


def _reserved_labels(entry: Mapping[str, Any], path: str) -> Iterator[FieldError]:
    for key in mapping(entry.get("labels")):
        if isinstance(key, str) and key.startswith("choregos.dev/"):
            yield FieldError(f"{path}.labels[{key}]", "labels that begin with choregos.dev/ are reserved", FORBIDDEN)


def _name_faults(cluster: Any, spec: Mapping[str, Any]) -> Iterator[FieldError]:
    """Every set's name must fit, with an ordinal behind it, and be its own."""
    if not isinstance(cluster, str) or not cluster:
        return
    taken: dict[str, str] = {}
    for path, template, region in _set_parts(spec):
        name = expansion.set_name(cluster, template, region)
        if len(name) > names.SET_NAME_LENGTH_MAX:
            excess = (
                f"has {len(name)} characters, at most {names.SET_NAME_LENGTH_MAX} leave room for the agent's number"
            )
            yield FieldError(path, f"makes the AgentSet name {name!r}, which {excess}", INVALID)
        if name in taken and taken[name] != path:
            yield FieldError(path, f"makes the AgentSet name {name!r}, as {taken[name]} does", DUPLICATE)
        taken.setdefault(name, path)


def _set_parts(spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(path, template, region) of every set the manifest makes, in any shape, as far as it can be read."""
    needs = mapping(spec.get("resource_management"))
    if spec.get("agents") is not None:
        for path, entry in named_entries(spec["agents"], "spec.agents"):
            yield f"{path}.name", entry["name"], ""
    elif spec.get("regions") is not None:
        for path, region in named_entries(spec["regions"], "spec.regions"):
            types = {
                expansion.agent_type(plural, needs): f"{path}.agent_distribution.{plural}"
                for plural in mapping(region.get("agent_distribution"))
                if isinstance(plural, str)
            }
            for type_name, type_path in types.items():
                yield type_path, type_name, region["name"]
    else:
        for type_name in needs:
            if isinstance(type_name, str):
                yield f"spec.resource_management.{type_name}", type_name, ""


def _duplicate_types(spec: Mapping[str, Any]) -> Iterator[FieldError]:
    needs = mapping(spec.get("resource_management"))
    for path, region in named_entries(spec.get("regions"), "spec.regions"):
        seen: dict[str, str] = {}
        for plural in mapping(region.get("agent_distribution")):
            if not isinstance(plural, str):
                continue
            type_name = expansion.agent_type(plural, needs)
            if type_name in seen:
                message = f"counts {type_name!r}, as {seen[type_name]!r} does"
                yield FieldError(f"{path}.agent_distribution.{plural}", message, DUPLICATE)
            seen.setdefault(type_name, plural)


def _scaling_faults(scaling: Mapping[str, Any]) -> Iterator[FieldError]:
    low, high = scaling.get("min_replicas"), scaling.get("max_replicas")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        yield FieldError("spec.auto_scaling.min_replicas", f"{low} is more than max_replicas, {high}", INVALID)
    down, up = _percent(scaling.get("scale_down_threshold")), _percent(scaling.get("scale_up_threshold"))
    if down is not None and up is not None and down >= up:
        message = f"{down}% is not below scale_up_threshold, {up}%"
        yield FieldError("spec.auto_scaling.scale_down_threshold", message, INVALID)


def _percent(value: Any) -> int | None:
    try:
        return percent.parse_percent(value)
    except ValueError:
        return None


def advice(obj: ReadOnlyObject) -> Iterator[str]:
    """Warnings for a valid object: what is accepted and probably not meant."""
    spec = obj["spec"]
    yield from _count_advice(spec)
    yield from _unused_types(spec)
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
