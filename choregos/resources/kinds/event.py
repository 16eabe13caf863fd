"""Event (core/v1): something that happened to an object. Kept for an hour. `choregos.resources.events` makes them."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from choregos.resources.columns import path, since
from choregos.resources.kind import Column, Kind, ReadOnlyObject
from choregos.resources.kinds.parts import ONE_VALUE, Count, Part, Resource, Time


class ObjectReference(Part):
    """The object an event is about."""

    model_config = ConfigDict(json_schema_extra=ONE_VALUE)

    api_version: str | None = None
    """API version of the object."""
    kind: str | None = None
    """Kind of the object."""
    namespace: str | None = None
    """Namespace of the object."""
    name: str | None = None
    """Name of the object."""
    uid: str | None = None
    """UID of the object."""
    resource_version: str | None = None
    """Version of the object the event is about."""
    field_path: str | None = None
    """Part of the object the event is about."""


class EventSource(Part):
    """Who reported the event."""

    component: str | None = None
    """Part of choregos, or of another system, that reported it."""
    host: str | None = None
    """Machine or node it was reported from."""


class EventSeries(Part):
    """How often an event has happened."""

    count: Count | None = None
    """Times it has happened."""
    last_observed_time: Time | None = None
    """When it happened last."""


class Event(Resource):
    """Something that happened to an object. Events are kept for an hour."""

    involved_object: ObjectReference
    """The object it happened to."""
    reason: str = Field(default="", max_length=128)
    """What happened, as one CamelCase word."""
    message: str = Field(default="", max_length=32_768)
    """What happened, for people."""
    type: str = "Normal"
    """`Normal` or `Warning`."""
    source: EventSource | None = None
    """Who reported it."""
    first_timestamp: Time | None = None
    """When it happened first."""
    last_timestamp: Time | None = None
    """When it happened last."""
    count: Count | None = None
    """Times it has happened."""
    event_time: Time | None = None
    """When it happened, to the microsecond."""
    series: EventSeries | None = None
    """How often it has happened."""
    action: str | None = None
    """What was done about it."""
    related: ObjectReference | None = None
    """A second object it concerns."""
    reporting_component: str | None = None
    """Controller that reported it."""
    reporting_instance: str | None = None
    """Process that reported it."""


def _object(obj: ReadOnlyObject, now_ms: int) -> str:
    involved = obj.get("involvedObject") or {}
    return f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"


def _source(obj: ReadOnlyObject, now_ms: int) -> str:
    source = obj.get("source") or {}
    component = source.get("component") or obj.get("reportingComponent") or ""
    return f"{component}, {source['host']}" if source.get("host") else str(component)


def _last_seen(obj: ReadOnlyObject, now_ms: int) -> str:
    for key in ("lastTimestamp", "eventTime", "firstTimestamp"):
        if obj.get(key):
            return str(since(key)(obj, now_ms))
    return str(since("metadata", "creationTimestamp")(obj, now_ms))


EVENT = Kind(
    group="",
    version="v1",
    kind="Event",
    plural="events",
    singular="event",
    namespaced=True,
    model=Event,
    short_names=("ev",),
    has_status=False,
    plane="event",
    selectable={"source": ""},
    columns=(
        Column("Last Seen", _last_seen, description="Time since it happened last."),
        Column("Type", path("type"), description="Normal or Warning."),
        Column("Reason", path("reason"), description="What happened, as one word."),
        Column("Object", _object, description="The object it happened to."),
        Column("Source", _source, wide=True, description="Who reported it."),
        Column("Message", path("message"), description="What happened."),
        Column("First Seen", since("firstTimestamp"), wide=True, description="Time since it happened first."),
        Column("Count", path("count", default=1), type="integer", wide=True, description="Times it has happened."),
        Column("Name", path("metadata", "name"), format="name", wide=True, description="Name of the event."),
    ),
)
