"""POST of a review: who am I, whose token is this, may I, may somebody, what all may I. Nothing is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from starlette.responses import Response

from choregos.api.access import refusals
from choregos.api.handlers.writing import validated
from choregos.api.requests import ApiRequest, answer
from choregos.api.rules import metadata
from choregos.api.rules.options import write_options
from choregos.api.rules.status import bad_request
from choregos.foundation.errors import FieldError, Invalid, Unauthenticated
from choregos.resources.kind import Object
from choregos.resources.registry import by_plural
from choregos.security import rbac
from choregos.security.rbac import AUTHENTICATED, Attributes, User
from choregos.security.tokens import ISSUER


async def self_subject(call: ApiRequest) -> Response:
    document, warnings = await _read(call)
    return answer({**document, "status": {"userInfo": call.user.info()}}, 201, warnings)


async def self_access(call: ApiRequest) -> Response:
    document, warnings = await _read(call)
    return answer({**document, "status": _access(call, call.user, document["spec"])}, 201, warnings)


async def subject_access(call: ApiRequest) -> Response:
    document, warnings = await _read(call)
    return answer({**document, "status": _access(call, _user(document["spec"]), document["spec"])}, 201, warnings)


async def local_subject_access(call: ApiRequest) -> Response:
    """As `subject_access`, for resources of the namespace in the path."""
    document, warnings = await _read(call)
    spec, namespace = document["spec"], call.target.namespace
    attributes = spec.get("resourceAttributes")
    if attributes is None:
        cause = FieldError("spec.nonResourceAttributes", "disallowed on this kind of request", "FieldValueInvalid")
        raise Invalid(call.kind.kind, (cause,))
    if attributes.get("namespace") not in ("", None, namespace):
        cause = FieldError("spec.resourceAttributes.namespace", f"must be {namespace}", "FieldValueInvalid")
        raise Invalid(call.kind.kind, (cause,))
    spec = {**spec, "resourceAttributes": {**attributes, "namespace": namespace}}
    return answer({**document, "spec": spec, "status": _access(call, _user(spec), spec)}, 201, warnings)


async def self_rules(call: ApiRequest) -> Response:
    document, warnings = await _read(call)
    held = rbac.compact(call.gate.grants.rules_of(call.user, document["spec"]["namespace"]))
    status = {
        "resourceRules": [rule.document() for rule in held if not rule.paths],
        "nonResourceRules": [rule.document() for rule in held if rule.paths],
        "incomplete": False,
    }
    return answer({**document, "status": status}, 201, warnings)


async def token(call: ApiRequest) -> Response:
    """Whose a token is; one that is not valid is an answer too."""
    document, warnings = await _read(call)
    asked = document["spec"].get("audiences") or [ISSUER]
    authenticators = call.gate.authenticators
    try:
        user = authenticators.bearer(document["spec"]["token"], asked)
        claims = authenticators.tokens.check(document["spec"]["token"], asked)
    except Unauthenticated as error:
        status: dict[str, Any] = {"authenticated": False, "error": str(error)}
    else:
        user = replace(user, groups=(*user.groups, AUTHENTICATED))
        audiences = [audience for audience in asked if audience in claims.audiences]
        status = {"authenticated": True, "user": user.info(), "audiences": audiences}
    # A token is not handed back: answers are kept longer and shown more often than requests.
    spec = {key: value for key, value in document["spec"].items() if key != "token"}
    return answer({**document, "spec": spec, "status": status}, 201, warnings)


async def _read(call: ApiRequest) -> tuple[Object, tuple[str, ...]]:
    body = await call.document()
    metadata.check_type(call.kind, body)
    body.pop("status", None)
    return await validated(call, body, write_options(call.query))


def _user(spec: dict[str, Any]) -> User:
    return User(spec.get("user", ""), tuple(spec.get("groups", ())), spec.get("uid", ""))


def _access(call: ApiRequest, user: User, spec: dict[str, Any]) -> dict[str, Any]:
    """A `SubjectAccessReviewStatus`."""
    wanted = _attributes(spec)
    decision = call.gate.grants.decide(user, wanted)
    if decision.allowed:
        return {"allowed": True, "reason": decision.reason}
    return {"allowed": False, "reason": refusals.missing(wanted)}


def _attributes(spec: dict[str, Any]) -> Attributes:
    path = spec.get("nonResourceAttributes")
    if path is not None:
        return Attributes(path["verb"], path["path"])
    asked = spec["resourceAttributes"]
    if not asked["resource"] and asked["subresource"]:
        raise bad_request("a subresource without a resource is nothing")
    names = ("verb", "group", "version", "subresource", "namespace", "name")
    kind = by_plural(asked["group"], asked["version"] or "v1", asked["resource"])
    # What is served under two names is the same resource to a rule.
    return Attributes(resource=kind.plural if kind is not None else asked["resource"], **{n: asked[n] for n in names})
