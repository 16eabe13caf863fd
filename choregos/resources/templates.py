"""Agent templates as the instance plane sees them: canonical JSON and its digest; and how a set finds its agents.

A template is `spec.template` of an AgentSet, with the time of its last restart if it has one. What two sets declare
alike is the same template, because it is named by its content. Invariant: equal templates, however their keys are
ordered, have equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from choregos.resources.meta import SET_LABEL

DIGEST_LENGTH = 16

GRACE_S_DEFAULT = 30

RESTARTED = "restartedAt"
"""In the template of agents, and in no set's: only so that it is another one than before the restart."""


def canonical_json(spec: Mapping[str, Any]) -> bytes:
    """UTF-8 JSON with sorted keys and no blanks."""
    return json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(spec: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON; `wire.instances.TemplateRecord.digest`."""
    return canonical_digest(spec)[0]


def canonical_digest(spec: Mapping[str, Any]) -> tuple[str, bytes]:
    """(digest, canonical JSON): the two halves of a `TemplateRecord`."""
    encoded = canonical_json(spec)
    return hashlib.sha256(encoded).hexdigest()[:DIGEST_LENGTH], encoded


def instance_template(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """What agents of an AgentSet with this spec are made from: its template, and when they were asked to start anew."""
    restarted = spec.get("restartedAt")
    return {**spec["template"], RESTARTED: restarted} if restarted else spec["template"]


def declared_template(template: Mapping[str, Any]) -> Mapping[str, Any]:
    """The template of the set that agents of this one were made for: the inverse of `instance_template`."""
    return {key: value for key, value in template.items() if key != RESTARTED}


def grace_s(spec: Mapping[str, Any]) -> int:
    """Seconds an agent of this template may take to drain."""
    return int(spec.get("terminationGracePeriodSeconds", GRACE_S_DEFAULT))


def set_selector(agent_set: str) -> str:
    """The label selector of a set's agents, for `status.selector`."""
    return f"{SET_LABEL}={agent_set}"
