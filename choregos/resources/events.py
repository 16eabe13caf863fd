"""Events (core/v1): what happened to an object, for `kubectl describe` and `kubectl events`.

An event's name is made from what it is about and why, so the same thing happening again is the same object with a
higher count, and what happens for another reason is another object. Messages that differ in numbers and generated
names only have the same cause. Nobody needs to remember what was reported before; the writer creates, and on
`AlreadyExists` writes `repeated`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from choregos.foundation.terminal import printable
from choregos.foundation.timestamp import rfc3339
from choregos.resources.kind import Object, ReadOnlyObject
from choregos.resources.meta import API_VERSION, DEFAULT_NAMESPACE
from choregos.resources.selectors import FieldRequirement, FieldSelector

NORMAL, WARNING = "Normal", "Warning"

MESSAGE_LENGTH_MAX = 8_192
"""Longer messages (tracebacks) lose their middle: the beginning says where, the end says what."""

COMBINED = "(combined from similar events): "
"""Begins the message of the one event that stands for those of too many causes, as in Kubernetes."""

_NAME_LENGTH_MAX = 200
# A worker's name, and whatever has a digit in it: a figure, an address, a generated name. But not where in a file it
# happened, nor how a process ended.
_VARYING = re.compile(r"(?<=\bworker )\S+|(?<!\bline )(?<!\bstatus )(?<!\bsignal )(?<![\w.-])[\w.-]*\d[\w.-]*")
_CUT = "\n… cut …\n"


def reference_to(obj: ReadOnlyObject) -> dict[str, Any]:
    """The `involvedObject` for an object."""
    metadata = obj["metadata"]
    return reference(
        obj["kind"],
        metadata["name"],
        namespace=metadata.get("namespace", ""),
        uid=metadata.get("uid", ""),
        api_version=obj["apiVersion"],
    )


def reference(
    kind: str, name: str, *, namespace: str = "", uid: str = "", api_version: str = "choregos.dev/v1"
) -> dict[str, Any]:
    """The `involvedObject` for what is no object in hand, such as an agent of the directory."""
    parts = {"apiVersion": api_version, "kind": kind, "namespace": namespace, "name": name, "uid": uid}
    return {key: value for key, value in parts.items() if value}


def new_event(
    involved: Mapping[str, Any],
    reason: str,
    message: str,
    *,
    now_ms: int,
    component: str,
    type: str = NORMAL,
    host: str = "",
) -> Object:
    """An event that has happened once, without uid.

    Args:
        involved: from `reference` or `reference_to`; events of objects without a namespace are in `default`.
        reason: one CamelCase word, stable.
        component: the part of choregos that reports it: `region`, `node`.
        host: node or machine that reports it.
    """
    now = rfc3339(now_ms)
    source = {"component": component, "host": host} if host else {"component": component}
    event: Object = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": involved.get("namespace") or DEFAULT_NAMESPACE},
        "involvedObject": dict(involved),
        "reason": reason,
        "message": for_people(message),
        "type": type,
        "source": source,
        "reportingComponent": component,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
    digest = hashlib.sha256("\n".join(aggregation_key(event)).encode()).hexdigest()[:16]
    event["metadata"]["name"] = f"{str(involved.get('name', ''))[:_NAME_LENGTH_MAX].rstrip('.-')}.{digest}"
    event["metadata"]["creationTimestamp"] = now
    return event


def aggregation_key(event: ReadOnlyObject) -> tuple[str, ...]:
    """Events with equal keys are one event."""
    involved = event.get("involvedObject") or {}
    source = event.get("source") or {}
    return (
        *(str(involved.get(key, "")) for key in ("kind", "namespace", "name", "uid")),
        str(event.get("type", "")),
        str(event.get("reason", "")),
        str(source.get("component", "")),
        str(source.get("host", "")),
        cause_of(str(event.get("message", ""))),
    )


def cause_of(message: str) -> str:
    """What messages about the same thing have in common: the text without what differs each time."""
    return COMBINED if message.startswith(COMBINED) else _VARYING.sub("#", message)


def repeated(previous: ReadOnlyObject, event: ReadOnlyObject) -> Object:
    """`previous` after `event`, which has the same key, has happened too: counted, with the newer message and time."""
    return {
        **previous,
        "message": event["message"],
        "lastTimestamp": event["lastTimestamp"],
        "count": int(previous.get("count") or 1) + int(event.get("count") or 1),
    }


_SHOWN_AS = {"Pod": "Agent", "Node": "AgentNode"}


def as_recorded(fields: FieldSelector) -> FieldSelector:
    """A selector of events for what is recorded: of an Agent, where it asks for those of its Pod; of an AgentNode,
    where it asks for those of its Node. Who asks for a source means its component, as in Kubernetes.

    Kubelets put a node's name where its uid belongs, and kubectl asks for such as well; ours have no uid then.
    """
    fields = FieldSelector(
        tuple(replace(each, path="source.component") if each.path == "source" else each for each in fields.requirements)
    )
    recorded = _SHOWN_AS.get(fields.value_of("involvedObject.kind") or "")
    if recorded is None:
        return fields
    replaced = {"involvedObject.kind": recorded, "involvedObject.apiVersion": API_VERSION}
    name = fields.value_of("involvedObject.name")
    if name and fields.value_of("involvedObject.uid") == name:
        replaced["involvedObject.uid"] = ""
    return FieldSelector(
        tuple(
            FieldRequirement(each.path, each.equal, replaced[each.path])
            if each.equal and each.path in replaced
            else each
            for each in fields.requirements
        )
    )


def for_people(message: str, length_max: int = MESSAGE_LENGTH_MAX) -> str:
    """`message` as it is kept: `shortened`, and nothing in it steers the terminal of whoever reads it, by whatever
    client."""
    return shortened(printable(shortened(message, length_max)), length_max)


def shortened(message: str, length_max: int = MESSAGE_LENGTH_MAX) -> str:
    """`message`, or its first quarter and its end if it is longer than `length_max` characters."""
    if len(message) <= length_max:
        return message
    head = (length_max - len(_CUT)) // 4
    return message[:head] + _CUT + message[len(message) - (length_max - len(_CUT) - head) :]
