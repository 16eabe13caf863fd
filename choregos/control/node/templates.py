"""Translates an agent template from the manifest's terms into the worker's. Pure.

A template without `runtime` names an entry point; what is missing has the manifest's defaults, so a template that was
stored by an older version still starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from choregos.wire.worker import Probe, Template

Spec = Mapping[str, Any]


def worker_template(digest: str, spec: Spec) -> Template:
    """What a worker needs of a template; equal digests give equal results."""
    runtime = spec.get("runtime") or {}
    python = runtime.get("python", "")
    probes = spec.get("probes") or {}
    return Template(
        digest,
        spec.get("name", ""),
        python,
        "" if python else spec.get("name", ""),
        (runtime["path"],) if runtime.get("path") else (),
        tuple(spec.get("capabilities") or ()),
        tuple(sorted((spec.get("env") or {}).items())),
        msgspec.json.encode(spec.get("settings") or {}),
        _probe(probes.get("liveness")),
        _probe(probes.get("readiness")),
        tuple(sorted((spec.get("labels") or {}).items())),
        spec.get("startTimeoutSeconds", 60),
        spec.get("blockTimeoutSeconds", 10),
    )


def _probe(spec: Spec | None) -> Probe | None:
    if spec is None:
        return None
    return Probe(
        spec["method"],
        spec.get("periodSeconds", 10),
        spec.get("timeoutSeconds", 1),
        spec.get("failureThreshold", 3),
        spec.get("initialDelaySeconds", 0),
    )
