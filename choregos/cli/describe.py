"""`choregos describe`: one object for people: spec, status, conditions and what happened to it lately."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from choregos.cli.output import print_table, show, yaml_text
from choregos.cli.session import Session
from choregos.cli.words import age, parse_targets
from choregos.client import Client, Object
from choregos.client.client import event_time
from choregos.client.merge import LAST_APPLIED
from choregos.foundation.clock import SystemClock, parse_rfc3339

EVENTS_MAX = 50
"""Of older ones `choregos events --for` tells."""


async def describe(*words: str, session: Session = Session()) -> None:  # noqa: B008  (immutable)
    """Show all about objects: spec, status, conditions, events.

    Parameters
    ----------
    words
        KIND NAME …, KIND/NAME …, or KIND for all of a kind.
    """
    async with session.connect() as client:
        first = True
        for kind, name in parse_targets(words):
            if name:
                objects = [await client.get(kind, name, namespace=session.namespace)]
            else:
                objects = await client.list(kind, namespace=session.namespace)
            for obj in objects:
                if not first:
                    show("\n")
                first = False
                await _describe(client, obj)


async def _describe(client: Client, obj: Object) -> None:
    metadata, status = obj["metadata"], dict(obj.get("status") or {})
    conditions = status.pop("conditions", None) or []
    now_ms = SystemClock().wall_ms()
    _print_fields(_head(obj, now_ms))
    for title, content in (("Spec", obj.get("spec")), ("Status", status)):
        if content:
            show(f"{title}:")
            show(_indented(yaml_text(content)))
    if conditions:
        show("Conditions:")
        print_table(
            ("Type", "Status", "Since", "Reason", "Message"),
            [_condition_row(condition, now_ms) for condition in conditions],
            indent="  ",
        )
    if metadata.get("uid") and obj.get("kind") != "Event":
        await _print_events(client, obj, now_ms)


def _head(obj: Object, now_ms: int) -> dict[str, Any]:
    metadata = obj["metadata"]
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != LAST_APPLIED}
    owners = [f"{owner['kind']}/{owner['name']}" for owner in metadata.get("ownerReferences") or ()]
    created = metadata.get("creationTimestamp", "")
    fields = {
        "Name": metadata["name"],
        "Namespace": metadata.get("namespace"),
        "Kind": f"{obj['kind']} ({obj['apiVersion']})",
        "Labels": _pairs(metadata.get("labels") or {}),
        "Annotations": _pairs(annotations),
        "Owned by": ", ".join(owners),
        "Created": f"{created} ({_ago(created, now_ms)} ago)" if created else "",
        "Deletion asked": metadata.get("deletionTimestamp"),
        "Finalizers": ", ".join(metadata.get("finalizers") or ()),
    }
    return {key: value for key, value in fields.items() if value}


def _pairs(mapping: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={value}" for key, value in sorted(mapping.items()))


def _print_fields(fields: Mapping[str, Any]) -> None:
    width = max(map(len, fields)) + 1
    for key, value in fields.items():
        first, *rest = str(value).split("\n")
        show(f"{key + ':':<{width}}  {first}")
        for line in rest:
            show(f"{'':<{width}}  {line}")


def _condition_row(condition: Mapping[str, Any], now_ms: int) -> list[Any]:
    since = _ago(condition.get("lastTransitionTime", ""), now_ms)
    return [
        condition.get("type", ""),
        condition.get("status", ""),
        since,
        condition.get("reason", ""),
        condition.get("message", ""),
    ]


async def _print_events(client: Client, obj: Object, now_ms: int) -> None:
    events = (await client.events(about=obj))[-EVENTS_MAX:]
    if not events:
        show("Events: none in the last hour")
        return
    show("Events:")
    rows = []
    for event in events:
        count = event.get("count") or 1
        seen = _ago(event_time(event), now_ms) + (f" (x{count})" if count > 1 else "")
        source = (event.get("source") or {}).get("component") or event.get("reportingComponent") or ""
        rows.append([event.get("type", ""), event.get("reason"), seen, source, event.get("message")])
    print_table(("Type", "Reason", "Age", "From", "Message"), rows, indent="  ")


def _ago(time: str, now_ms: int) -> str:
    try:
        return age((now_ms - parse_rfc3339(time)) / 1000)
    except ValueError:
        return ""


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip("\n").split("\n"))
