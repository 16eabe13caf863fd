"""Server-side apply: PATCH with `application/apply-patch+yaml`, which creates what is not there.

Invariant: what is created is authorized as a creation.
"""

from __future__ import annotations

from starlette.responses import Response

from choregos.api.apply.edits import Apply
from choregos.api.handlers import writing
from choregos.api.requests import ApiRequest, answer
from choregos.api.rules import codec
from choregos.api.rules.options import WriteOptions, check_patch, write_options
from choregos.api.rules.status import bad_request
from choregos.foundation.errors import AlreadyExists, Conflict, NotFound
from choregos.resources.kind import Object


async def patch_(call: ApiRequest) -> Response:
    """A patch of any kind."""
    if codec.media_type_of(call.content_type) != codec.APPLY_PATCH:
        return await writing.patch_(call)
    options = write_options(call.query)
    check_patch(options, applies=True)
    config = await call.document()
    edit = await call.decider.decide(lambda: Apply(call.author(options), config, force=options.force is True))
    warnings = writing.unknown_fields(call, edit.unknown_fields, options)
    document, found, code = await _apply(call, options, edit)
    return answer(call.view.one(document, call.context.clock.wall_ms()), code, (*warnings, *found))


async def _apply(call: ApiRequest, options: WriteOptions, edit: Apply) -> tuple[Object, tuple[str, ...], int]:
    """The object, warnings, and 201 if it is new."""
    for attempt in range(1, call.context.limits.write_attempts_max + 1):
        try:
            return *await writing.write(call, options, edit), 200
        except NotFound:
            if call.target.subresource:
                raise
        try:
            return *await _create(call, options, edit), 201
        except AlreadyExists:
            # It may take a moment until it is seen here.
            await call.context.clock.sleep(writing.RETRY_S * attempt)
    raise Conflict("the object comes and goes")


async def _create(call: ApiRequest, options: WriteOptions, edit: Apply) -> tuple[Object, tuple[str, ...]]:
    call.require("create")
    said = edit.config["metadata"]
    if said.get("name") not in (None, "", call.name):
        raise bad_request(f"the name of the object ({said['name']}) does not match the name on the URL ({call.name})")
    if said.get("uid"):
        raise Conflict(f"uid mismatch: the provided object specified uid {said['uid']}, but there is no such object")
    body = {**edit.config, "metadata": {**said, "name": call.name}}
    return await writing.make(call, options, body, lambda new: edit.owned({}, body, new))
