"""Paths that are no resources: discovery, OpenAPI, version. Made once at start and served as bytes; and health."""

from __future__ import annotations

import platform
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from choregos.api.handlers import health
from choregos.api.projections.nodes import architecture
from choregos.api.requests import accepted, answer
from choregos.api.rules import codec, discovery, openapi
from choregos.api.rules.status import method_not_allowed, unknown_path
from choregos.store.resources import ResourceStore

GNOSTIC = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
"""As clients ask for it. The `@` is no part of a valid media type, so it is answered as one that Go can parse."""

GNOSTIC_ANSWERED = GNOSTIC.replace("@", ".")

KUBERNETES_MINOR = "36"
"""The Kubernetes release whose API conventions are followed; `kubectl version` warns of one more than a minor away."""


class Documents:
    """All documents of one server.

    Args:
        product_version: choregos' own.
        resources: the store that a server which is ready reaches.
    """

    def __init__(self, product_version: str, resources: ResourceStore) -> None:
        self._resources = resources
        self._openapi = openapi.documents(product_version)
        self._aggregated = {
            "/api": codec.encode(discovery.aggregated(core=True)),
            "/apis": codec.encode(discovery.aggregated(core=False)),
        }
        self._plain: dict[str, Any] = {
            "/api": discovery.api_versions(),
            "/apis": discovery.api_groups(),
            "/version": _version(product_version),
            "/openapi/v3": openapi.index(self._openapi),
            "/openapi/v2": openapi.V2_EMPTY,
        }
        for group, version in discovery.group_versions():
            self._plain[f"/{openapi.group_path(group, version)}"] = discovery.api_resources(group, version)
            if group:
                self._plain[f"/apis/{group}"] = discovery.api_group(group)

    async def respond(self, request: Request) -> Response:
        """
        Raises:
            Refusal: 404 or 405; of discovery 406 too.
        """
        path = request.url.path.rstrip("/") or "/"
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed() if self._knows(path) else unknown_path()
        if path.startswith("/api") and path in self._plain:
            discovery = accepted(request).discovery
            if discovery and path in self._aggregated:
                return Response(self._aggregated[path], media_type=codec.DISCOVERY_TYPE)
        if path == "/openapi/v2" and GNOSTIC in request.headers.get("accept", ""):
            return Response(openapi.V2_EMPTY_GNOSTIC, media_type=GNOSTIC_ANSWERED)
        if path in self._plain:
            return answer(self._plain[path])
        if path in health.PATHS:
            return await health.respond(request, self._resources)
        document = self._openapi.get(path.removeprefix("/openapi/v3/"))
        if document is None:
            raise unknown_path()
        return Response(document, media_type=codec.JSON)

    def _knows(self, path: str) -> bool:
        return path in self._plain or path in health.PATHS or path.removeprefix("/openapi/v3/") in self._openapi


def _version(product_version: str) -> dict[str, str]:
    return {
        "major": "1",
        "minor": KUBERNETES_MINOR,
        "gitVersion": f"v1.{KUBERNETES_MINOR}.0+choregos-{product_version}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"{platform.system().lower()}/{architecture(platform.machine())}",
    }
