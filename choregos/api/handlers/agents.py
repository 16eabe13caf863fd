"""What can be asked of an agent, or of the Pod it is shown as, besides reading it: to go, and what it has logged.

A deletion is a request to the region's leader; the agent is seen as it drains and disappears when its node has
stopped it. Its set makes a new one, unless it was scaled down too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from starlette.responses import Response

from choregos.api.handlers.reading import read_page
from choregos.api.handlers.writing import read_delete_options
from choregos.api.node_ports import LogChoice, LogLine
from choregos.api.projections.pods import ASSIGNED
from choregos.api.requests import ApiRequest, answer
from choregos.api.rules import metadata
from choregos.api.rules.options import DeleteOptions, LogOptions, delete_options, list_options, log_options
from choregos.api.rules.status import bad_request, success
from choregos.api.selection import select
from choregos.foundation.errors import ChoregosError
from choregos.foundation.timestamp import rfc3339_micro
from choregos.resources.kinds.projected.pod import CONTAINER
from choregos.resources.templates import grace_s
from choregos.store.instance import Instance
from choregos.wire.instances import VERSION, DeletionRecord, Phase

WRITES_AT_ONCE_MAX = 256


async def delete(call: ApiRequest) -> Response:
    options = await read_delete_options(call)
    instance = call.context.directory.get(call.target.namespace, call.name)
    await _request([instance], call, options)
    directory = call.context.directory
    latest = directory.find(instance.namespace, instance.name) or instance
    return answer(call.reading().document(latest))


async def delete_collection(call: ApiRequest) -> Response:
    """Asks for the deletion of what the selectors match, and answers with the list of it."""
    options = await read_delete_options(call)
    chosen = list_options(call.query)
    page = await read_page(call, chosen, select(call, chosen))
    await _request(page.items, call, options)
    documents = map(call.reading().document, page.items)
    revision = {"resourceVersion": str(call.context.directory.revision)}
    return answer(call.view.many(documents, revision, call.context.clock.wall_ms()))


async def evict(call: ApiRequest) -> Response:
    """POST of a policy/v1 Eviction: a deletion. No budget stands in its way: the set of the agent has its own bounds
    for what it replaces itself, and whoever empties a node wants it empty."""
    body = await call.document()
    metadata, given = body.get("metadata") or {}, body.get("deleteOptions") or {}
    if body.get("kind", "Eviction") != "Eviction" or not isinstance(given, dict):
        raise bad_request("the request body must be an Eviction of policy/v1")
    if metadata.get("name") not in (None, "", call.name):
        raise bad_request(f"name in URL does not match name in Eviction object: {call.name} != {metadata['name']}")
    instance = call.context.directory.get(call.target.namespace, call.name)
    await _request([instance], call, delete_options(given, call.query))
    return answer(success(call.subject, instance.record.uid), 201)


async def _request(instances: Sequence[Instance], call: ApiRequest, options: DeleteOptions) -> None:
    """Asks for the deletion of those of which it has not been asked for, or with more time; returns when the directory
    knows of it."""
    for instance in instances:
        revision = str(instance.revision)
        metadata.check_preconditions(options, {"uid": instance.record.uid, "resourceVersion": revision})
    if options.dry_run:
        return
    writer = call.context.instances
    waiting = [each for each in instances if _is_sooner(each, options)]
    for start in range(0, len(waiting), WRITES_AT_ONCE_MAX):
        await asyncio.gather(
            *(
                writer.request_deletion(each.namespace, each.name, _record(each, options))
                for each in waiting[start : start + WRITES_AT_ONCE_MAX]
            )
        )
    if waiting:
        await call.context.directory.wait_for(writer.revision)


def _is_sooner(instance: Instance, options: DeleteOptions) -> bool:
    """Whether it would end sooner than it does. As in Kubernetes a grace period gets shorter, if that is asked for in
    so many words, and never longer."""
    given_s = instance.grace_s
    return given_s is None or (options.grace_s is not None and options.grace_s < given_s)


def _record(instance: Instance, options: DeleteOptions) -> DeletionRecord:
    asked_s = options.grace_s
    return DeletionRecord(VERSION, instance.record.uid, grace_s(instance.template.spec) if asked_s is None else asked_s)


async def log(call: ApiRequest) -> Response:
    """The agent's log as text; an error before the first line is a Status, one after it a last line."""
    options = log_options(call.query)
    instance = call.context.directory.get(call.target.namespace, call.name)
    _check_log(call, instance, options)
    since_ms = options.since_ms or 0
    if options.since_s is not None:
        since_ms = call.context.clock.wall_ms() - options.since_s * 1000
    choice = LogChoice(options.tail_lines, since_ms, options.follow, options.previous)
    lines = aiter(call.context.nodes.logs.lines(instance, choice))
    # Without `follow` the first line comes soon or never; with it, the client wants to see that it is connected.
    with call.streams.open(call.flow):
        first = None if options.follow else await anext(lines, None)
    if first is None and not options.follow:
        _check_started(call, instance)
    text = _text(call, instance, lines, first, options)
    return call.streams.answer(call.flow, text, "text/plain; charset=utf-8")


def _check_log(call: ApiRequest, instance: Instance, options: LogOptions) -> None:
    """Raises: Refusal 400, the agent cannot have what is asked for; in words that fit it under either kind."""
    if options.container not in ("", CONTAINER):
        raise bad_request(f"container {options.container} is not valid for pod {call.name}; it has one, {CONTAINER}")
    if not instance.record.node:
        raise bad_request(f'{call.kind.singular} "{call.name}" has no node yet, so it has logged nothing')
    if options.previous and not (instance.status is not None and instance.status.restarts):
        raise bad_request(f'{call.kind.singular} "{call.name}" has not been restarted, so there is no previous log')


def _check_started(call: ApiRequest, instance: Instance) -> None:
    """Raises: Refusal 400, there is no log because no worker has had the agent yet."""
    status = instance.status
    if status is not None and (status.phase is not Phase.PENDING or status.restarts):
        return
    why = (ASSIGNED, "") if status is None else (status.reason or status.phase.value, status.message)
    raise bad_request(
        f'container "{CONTAINER}" in {call.kind.singular} "{call.name}" is waiting to start: '
        f"{': '.join(filter(None, why))}"
    )


def _is_there(call: ApiRequest, instance: Instance) -> bool:
    """Whether the agent still is, on the node that was asked for its log."""
    now = call.context.directory.find(*instance.key)
    return now is not None and (now.record.uid, now.record.node) == (instance.record.uid, instance.record.node)


async def _text(
    call: ApiRequest,
    instance: Instance,
    lines: AsyncIterator[LogLine | None],
    first: LogLine | None,
    options: LogOptions,
) -> AsyncIterator[bytes]:
    left = options.limit_bytes
    try:
        line = first
        while left is None or left > 0:
            if line is not None:
                text = _format(line, options.timestamps)[:left]
                left = None if left is None else left - len(text)
                yield text
            line = await call.streams.wait(anext(lines))
            if line is None and not _is_there(call, instance):
                return
    except (StopAsyncIteration, TimeoutError):
        return
    except ChoregosError as error:
        yield f"error: {error}\n".encode()


def _format(line: LogLine, timestamps: bool) -> bytes:
    wall_ms, level, text = line
    prefix = f"{rfc3339_micro(wall_ms)} " if timestamps else ""
    return f"{prefix}{level} {text}\n".encode()
