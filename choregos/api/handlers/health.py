"""Whether this server lives, and whether it can serve: what load balancers, `kubectl get --raw` and people ask.

Invariant: an answer comes within `STORE_S`, whatever the store does. A server that is not ready still lives: starting
it anew would not help.
"""

from __future__ import annotations

import logging

from starlette.requests import Request
from starlette.responses import Response

from choregos.foundation.errors import ChoregosError
from choregos.foundation.timeout import timeout
from choregos.store.resources import ResourceStore

READY = "/readyz"
PATHS = ("/healthz", "/livez", READY)
STORE_S = 1.0
"""How long the store may take to say how far it is."""

log = logging.getLogger(__name__)


async def respond(request: Request, resources: ResourceStore) -> Response:
    """200 or 500, in the words of Kubernetes; with `verbose`, or if one fails, each check."""
    name = request.url.path.strip("/")
    checks = {"ping": True}
    if f"/{name}" == READY:
        checks["store"] = await _reaches(resources)
    passed = all(checks.values())
    if passed and "verbose" not in request.query_params:
        return _text("ok")
    lines = [f"[+]{check} ok" if good else f"[-]{check} failed: reason withheld" for check, good in checks.items()]
    return _text("\n".join((*lines, f"{name} check {'passed' if passed else 'failed'}\n")), 200 if passed else 500)


async def _reaches(resources: ResourceStore) -> bool:
    """Whether what is newest in the store is here."""
    try:
        async with timeout(STORE_S):
            await resources.catch_up()
    except (ChoregosError, TimeoutError) as error:
        log.warning("this server is not ready: the store %s", error or f"has not answered within {STORE_S:g} s")
        return False
    return True


def _text(text: str, code: int = 200) -> Response:
    headers = {"cache-control": "no-cache, private", "x-content-type-options": "nosniff"}
    return Response(text, code, headers, "text/plain; charset=utf-8")
