"""POST, PUT, PATCH and DELETE of stored objects: admission, validation, compare-and-set.

Invariants: what is stored has been defaulted and validated, and says who owns its fields; a write that names a
resourceVersion happens on exactly that state or not at all; one that names none is made again from the newest state
when somebody else was faster; a dry run answers what the write would have answered and stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.responses import Response

from choregos.api.access import escalation
from choregos.api.apply import managed_fields, strategic
from choregos.api.apply.edits import Edit, Update, created
from choregos.api.handlers.reading import read_page
from choregos.api.requests import ApiRequest, answer
from choregos.api.rules import codec, metadata, patch
from choregos.api.rules.metadata import Stamp
from choregos.api.rules.options import (
    DeleteOptions,
    WriteOptions,
    check_patch,
    delete_options,
    list_options,
    write_options,
)
from choregos.api.rules.status import Refusal, bad_request, success, unsupported_media
from choregos.api.selection import select
from choregos.api.sources import StoredSource
from choregos.foundation.errors import AlreadyExists, Conflict, FieldError, NotFound, TooLarge
from choregos.resources import meta, validation
from choregos.resources.kind import Object
from choregos.resources.schema import structure

RETRY_S = 0.002
"""Pause before a write is tried again, times the attempt: long enough for the other write to arrive here."""


async def create(call: ApiRequest) -> Response:
    options = write_options(call.query)
    body = await call.document()
    call.name = str((body.get("metadata") or {}).get("name") or "")
    author = call.author(options)
    try:
        document, warnings = await make(call, options, body, lambda new: created(author, body, new))
    except TooLarge:
        # Perhaps not without managedFields; so does Kubernetes.
        document, warnings = await make(call, options, body, lambda new: new)
    return answer(call.view.one(document, call.context.clock.wall_ms()), 201, warnings)


async def make(
    call: ApiRequest, options: WriteOptions, body: Object, owned: Callable[[Object], Object]
) -> tuple[Object, tuple[str, ...]]:
    """Stores a new object and returns it and warnings.

    Args:
        owned: adds to the validated object who owns its fields.

    Raises:
        AlreadyExists, Invalid, Refusal, TooLarge
    """
    clock, ids = call.context.clock, call.context.ids
    if call.kind.namespaced and not call.target.namespace:
        raise bad_request("an empty namespace may not be set during creation")
    stamp = Stamp(clock.wall_ms(), ids.uid(), ids.suffix())
    prepared = metadata.prepare_create(call.kind, dict(body), namespace=call.target.namespace, stamp=stamp)
    call.name = str(prepared["metadata"]["name"])
    admit_to_namespace(call)

    def proposed() -> tuple[Object, tuple[str, ...]]:
        document, warnings = checked(call, prepared, options)
        return owned(document), warnings

    document, warnings = await call.decider.decide(proposed)
    escalation.check(call.gate, call.user, call.kind, document, None)
    admit_to_namespace(call)  # it may have begun to go meanwhile
    if options.dry_run:
        _rehearse(call, document)
        return document, warnings
    return await _store(call, document), warnings


async def _store(call: ApiRequest, document: Object, old: Object | None = None) -> Object:
    """Stores what is new, or was `old`, within the quotas of its namespace."""
    store, bytes_max = _stored(call).store, call.context.limits.object_bytes_max
    if call.quotas.concern(call.kind, document, old):
        store.check_size(call.kind.plural, document, bytes_max)
        return await call.quotas.store(call.kind, call.subject, document)
    if old is None:
        return await store.create(call.kind.plural, document, bytes_max=bytes_max)
    return await store.update(call.kind.plural, document, bytes_max=bytes_max)


def _rehearse(call: ApiRequest, document: Object, old: Object | None = None) -> None:
    """Raises what `_store` would, as far as that can be known."""
    if call.quotas.concern(call.kind, document, old):
        call.quotas.rehearse(call.kind, call.subject, document)
    elif old is None and _exists(_stored(call), call.target.namespace, call.name):
        raise AlreadyExists(call.name)


def _exists(source: StoredSource, namespace: str, name: str) -> bool:
    try:
        source.get(namespace, name)
    except NotFound:
        return False
    return True


def admit_to_namespace(call: ApiRequest) -> None:
    """New content needs a namespace that exists and is not being deleted.

    Raises:
        Refusal: 404 or 403, in Kubernetes' words.
    """
    name = call.target.namespace
    if not call.kind.namespaced:
        return
    try:
        namespace = call.context.resources.get("namespaces", "", name)
    except NotFound as error:
        details = {"name": name, "group": "", "kind": "namespaces"}
        raise Refusal(404, "NotFound", f'namespaces "{name}" not found', details=details) from error
    if meta.is_deleting(namespace):
        message = f"unable to create new content in namespace {name} because it is being terminated"
        cause = FieldError("metadata.namespace", f"namespace {name} is being terminated", "NamespaceTerminating")
        quoted = f'{call.subject.qualified_resource} "{call.name}"'
        raise Refusal(403, "Forbidden", f"{quoted} is forbidden: {message}", causes=(cause,))


async def update(call: ApiRequest) -> Response:
    options = write_options(call.query)
    body = await call.document()
    document, warnings = await replace(call, options, lambda _: dict(body))
    return answer(call.view.one(document, call.context.clock.wall_ms()), 200, warnings)


async def patch_(call: ApiRequest) -> Response:
    options = write_options(call.query)
    change = await read_patch(call)
    document, warnings = await replace(call, options, change)
    return answer(call.view.one(document, call.context.clock.wall_ms()), 200, warnings)


async def read_patch(call: ApiRequest) -> Callable[[Any], Any]:
    """The change that the request's body describes, as a function of the present document.

    Raises:
        Refusal: 415 for a patch of another kind; 400 for one that cannot be read; 422 for options that do not fit.
    """
    media_type = codec.media_type_of(call.content_type)
    if media_type not in codec.PATCHES:
        raise unsupported_media(media_type, (*codec.PATCHES, codec.APPLY_PATCH))
    check_patch(write_options(call.query), applies=False)
    described = await call.value()
    if media_type == codec.JSON_PATCH:
        if managed_fields.NAME.encode() in call.body:
            # Operations may go into it, and stored objects have it as text.
            return lambda document: patch.apply_operations(managed_fields.opened(document), described)
        return lambda document: patch.apply_operations(document, described)
    if not isinstance(described, dict):
        raise bad_request("a merge patch of an object must be an object")
    if media_type == codec.MERGE_PATCH:
        return lambda document: patch.merge(document, described)
    return lambda document: strategic.patched(structure(call.kind), document, described)


async def replace(
    call: ApiRequest, options: WriteOptions, change: Callable[[Object], Any]
) -> tuple[Object, tuple[str, ...]]:
    """As `write`, for a change of the whole object."""
    return await write(call, options, Update(call.author(options), change))


async def write(call: ApiRequest, options: WriteOptions, edit: Edit) -> tuple[Object, tuple[str, ...]]:
    """Makes the edit of the present object and returns the stored object and warnings.

    Raises:
        Conflict: it names another resourceVersion or uid, or others were faster too many times.
        Invalid, NotFound, Refusal
    """
    source = _stored(call)
    attempt = 0
    while True:
        attempt += 1
        old = source.get(call.target.namespace, call.name)
        call.decider.consider(old)
        new, warnings = await call.decider.decide(partial(_proposed, call, options, edit, old))
        escalation.check(call.gate, call.user, call.kind, new, old)
        if options.dry_run:
            _rehearse(call, new, old)
            return new, warnings
        try:
            if metadata.is_finished(new):
                return await source.store.delete(call.kind.plural, new), warnings
            return await _store(call, new, old), warnings
        except TooLarge:
            if not isinstance(edit, Update) or edit.author is None:
                raise
            # Perhaps not without managedFields; so does Kubernetes.
            edit = Update(None, edit.change)
        except Conflict as error:
            if attempt >= _attempts_max(call, new, old):
                raise Conflict(metadata.MODIFIED) from error
            await call.context.clock.sleep(RETRY_S * attempt)


def _attempts_max(call: ApiRequest, new: Object, old: Object) -> int:
    """Under a quota one write of an object is stored with each group, so all who wait may come before this one."""
    limits = call.context.limits
    return limits.quota_attempts_max if call.quotas.concern(call.kind, new, old) else limits.write_attempts_max


def _proposed(call: ApiRequest, options: WriteOptions, edit: Edit, old: Object) -> tuple[Object, tuple[str, ...]]:
    """What an edit makes of the stored object `old`, and warnings. Pure."""
    body = edit.change(old)
    if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict):
        raise bad_request("the result is no object with metadata")
    patch.check_growth(old, body)
    subresource = "status" if call.target.subresource == "status" else ""
    new = metadata.prepare_update(call.kind, old, body, subresource=subresource)
    new, warnings = checked(call, new, options, old)
    return edit.owned(old, body, new), warnings


async def validated(call: ApiRequest, document: Object, options: WriteOptions) -> tuple[Object, tuple[str, ...]]:
    """As `checked`, for an object that is not stored."""
    return await call.decider.decide(lambda: checked(call, document, options))


def checked(
    call: ApiRequest, document: Object, options: WriteOptions, old: Object | None = None
) -> tuple[Object, tuple[str, ...]]:
    """The object as it will be stored, and warnings. Pure.

    Raises:
        Refusal: 400, fields are unknown and validation is strict.
        Invalid: anything else is wrong.
    """
    found = validation.validate(call.kind, document, previous=old)
    unknown = unknown_fields(call, found.unknown_fields, options, call.repeated)
    document = found.object if old is None else meta.changed(old, found.object)
    return document, (*unknown, *found.warnings)


def unknown_fields(
    call: ApiRequest, found: tuple[str, ...], options: WriteOptions, repeated: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Warnings of fields that the kind does not know, or that are given more than once.

    Raises:
        Refusal: 400, there are some and validation is strict.
    """
    unknown = (*(f'duplicate field "{path}"' for path in repeated), *(f'unknown field "{path}"' for path in found))
    if unknown and options.field_validation == "Strict":
        raise bad_request(
            f'{call.kind.kind} in version "{call.target.version}" cannot be handled as a {call.kind.kind}: '
            f"strict decoding error: {', '.join(unknown)}"
        )
    return () if options.field_validation == "Ignore" else unknown


async def delete(call: ApiRequest) -> Response:
    options = await read_delete_options(call)
    source = _stored(call)
    document, finished = await _delete_one(call, source, call.target.namespace, call.name, options)
    if finished and not call.kind.returns_deleted:
        return answer(success(call.subject, document["metadata"]["uid"]))
    return answer(call.view.object(document))


async def delete_collection(call: ApiRequest) -> Response:
    """Deletes what the selectors match, one after the other, and answers with the list of it."""
    options = await read_delete_options(call)
    chosen = list_options(call.query)
    source = _stored(call)
    page = await read_page(call, chosen, select(call, chosen))
    deleted = []
    for item in page.items:
        found = item["metadata"]
        try:
            document, _ = await _delete_one(call, source, found.get("namespace", ""), found["name"], options)
        except NotFound:
            continue
        deleted.append(document)
    listing = call.view.many(deleted, {"resourceVersion": str(source.revision)}, call.context.clock.wall_ms())
    return answer(listing)


async def read_delete_options(call: ApiRequest) -> DeleteOptions:
    return delete_options(await call.document() if call.body else {}, call.query)


async def _delete_one(
    call: ApiRequest, source: StoredSource, namespace: str, name: str, options: DeleteOptions
) -> tuple[Object, bool]:
    """The object as it was removed or marked, and whether it is gone."""
    attempt = 0
    while True:
        attempt += 1
        old = source.get(namespace, name)
        marked = metadata.prepare_delete(call.kind, old, options, now_ms=call.context.clock.wall_ms())
        finished = metadata.is_finished(marked)
        if options.dry_run or marked is old:
            return marked, finished
        try:
            if finished:
                return await source.store.delete(call.kind.plural, marked), True
            return await source.store.mark(call.kind.plural, marked), False
        except NotFound:
            return old, True
        except Conflict as error:
            if attempt >= call.context.limits.write_attempts_max:
                raise Conflict(metadata.MODIFIED) from error
            await call.context.clock.sleep(RETRY_S * attempt)


def _stored(call: ApiRequest) -> StoredSource:
    source = call.reading()
    assert isinstance(source, StoredSource), f"{call.kind.kind} is not written through the resource store"
    return source
