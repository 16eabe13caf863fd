"""POST of a TokenRequest to `serviceaccounts/<name>/token`: a new token of the account (`kubectl create token`).

Invariant: the token is in this one answer and nowhere else; neither stores nor logs have it.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from choregos.api.requests import ApiRequest, answer
from choregos.api.rules import metadata
from choregos.api.rules.options import write_options
from choregos.api.rules.status import bad_request
from choregos.foundation.errors import Conflict, FieldError, Invalid, NotFound
from choregos.foundation.timestamp import rfc3339
from choregos.resources import meta, validation
from choregos.resources.kinds.reviews.identity import TOKENREQUEST
from choregos.security.tokens import ISSUER, Bound


async def create(call: ApiRequest) -> Response:
    options = write_options(call.query)
    body = await call.document()
    metadata.check_type(TOKENREQUEST, body)
    checked = await call.decider.decide(lambda: validation.validate(TOKENREQUEST, body))
    if checked.unknown_fields and options.field_validation == "Strict":
        unknown = ", ".join(f'unknown field "{path}"' for path in checked.unknown_fields)
        raise bad_request(f"TokenRequest cannot be handled: strict decoding error: {unknown}")
    account = call.context.resources.get("serviceaccounts", call.target.namespace, call.name)
    if meta.is_deleting(account):
        raise NotFound(call.name)
    spec = checked.object["spec"]
    token, claims = call.gate.authenticators.tokens.issue(
        call.target.namespace,
        Bound(call.name, account["metadata"]["uid"]),
        life_s=spec["expirationSeconds"],
        audiences=spec.get("audiences") or (),
        secret=_secret(call, spec.get("boundObjectRef")),
    )
    life_s = claims.expires_s - claims.not_before_s
    warnings = []
    if life_s < spec["expirationSeconds"]:
        warnings.append(f"requested expiration of {spec['expirationSeconds']} seconds shortened to {life_s} seconds")
    document: dict[str, Any] = {
        "kind": TOKENREQUEST.kind,
        "apiVersion": TOKENREQUEST.api_version,
        "metadata": {
            "name": call.name,
            "namespace": call.target.namespace,
            "creationTimestamp": rfc3339(claims.not_before_s * 1000),
        },
        "spec": {**spec, "audiences": spec.get("audiences") or [ISSUER], "expirationSeconds": life_s},
        "status": {
            "token": "" if options.dry_run else token,
            "expirationTimestamp": rfc3339(claims.expires_s * 1000),
        },
    }
    return answer(document, 201, warnings)


def _secret(call: ApiRequest, reference: dict[str, str] | None) -> Bound | None:
    """The secret that the token shall end with.

    Raises:
        Invalid: it refers to something else.
        NotFound, Conflict: there is no such secret, or it has another uid.
    """
    if reference is None:
        return None
    if reference.get("kind") != "Secret" or reference.get("apiVersion") not in (None, "", "v1"):
        cause = FieldError("spec.boundObjectRef.kind", "tokens are bound to a Secret only", "FieldValueNotSupported")
        raise Invalid("TokenRequest", (cause,))
    found = call.context.resources.get("secrets", call.target.namespace, reference.get("name", ""))
    if reference.get("uid") not in (None, "", found["metadata"]["uid"]):
        raise Conflict(f"the secret has the uid {found['metadata']['uid']}, not {reference['uid']}")
    return Bound(found["metadata"]["name"], found["metadata"]["uid"])
