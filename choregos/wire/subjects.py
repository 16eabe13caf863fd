"""The subjects of every stream, and the encoding of names into subject tokens.

A token is `[A-Za-z0-9_-]`; every other byte of the UTF-8 form is `=XX` in upper-case hex, so that any name can be
a token, none can smuggle a wildcard in, and decoding gives the name back. The namespace is always the third token
of a regional subject, so that NATS permissions can confine a tenant.
"""

from __future__ import annotations

import re
from functools import lru_cache

CLUSTER_SCOPE = "_"
"""The namespace token of objects that have no namespace. `_` alone is no valid Kubernetes namespace."""

FLEET_SCOPE = "fleet"
"""Of the leases in the log of resources; those in a region's log have its name for a scope."""

RESOURCES_STREAM = "RESOURCES"
RESOURCES_SUBJECTS = ("o.>", f"al.{FLEET_SCOPE}.>")
EVENTS_STREAM = "KUBE_EVENTS"
EVENTS_SUBJECTS = ("oe.>",)

_SAFE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPED = re.compile(r"=([0-9A-F]{2})")
TOKEN_LENGTH_MAX = 255


@lru_cache(maxsize=65536)
def token(name: str) -> str:
    """The subject token for `name`.

    Raises:
        ValueError: `name` is empty, or its encoded form is longer than 255 bytes.
    """
    if _SAFE.fullmatch(name):
        encoded = name
    else:
        encoded = "".join(
            chr(byte) if (chr(byte).isalnum() and byte < 128) or byte in b"_-" else f"={byte:02X}"
            for byte in name.encode()
        )
    if not encoded or len(encoded) > TOKEN_LENGTH_MAX:
        raise ValueError(f"a name needs 1 to {TOKEN_LENGTH_MAX} bytes when encoded, this has {len(encoded)}")
    return encoded


def untoken(encoded: str) -> str:
    """The name that `token` made `encoded` from."""
    if "=" not in encoded:
        return encoded
    raw = re.sub(_ESCAPED, lambda match: chr(int(match[1], 16)), encoded)
    return raw.encode("latin-1").decode()


def object_subject(resource: str, namespace: str, name: str) -> str:
    """`o.<resource>.<ns>.<name>`: a declarative object; `namespace` is empty for cluster-scoped kinds.

    Events are `oe.…`: they have a stream of their own, and no two streams may capture the same subject.
    """
    kind = "oe" if resource == "events" else "o"
    return f"{kind}.{token(resource)}.{token(namespace) if namespace else CLUSTER_SCOPE}.{token(name)}"


def agents_stream(region: str) -> str:
    """The name of a region's instance stream, which captures `a`, `as`, `ad`, `at` and `al` of that region only."""
    return f"AGENTS_{token(region)}"


def agents_subjects(region: str) -> tuple[str, ...]:
    """What that stream captures."""
    return tuple(f"{kind}.{token(region)}.>" for kind in ("a", "as", "ad", "at", "al"))


def agent_subject(region: str, namespace: str, name: str) -> str:
    """`a.<region>.<ns>.<name>`: specification and binding; written by the region's leader only."""
    return f"a.{token(region)}.{token(namespace)}.{token(name)}"


def status_subject(region: str, namespace: str, name: str) -> str:
    """`as.<region>.<ns>.<name>`: status; written by the node that the agent is bound to."""
    return f"as.{token(region)}.{token(namespace)}.{token(name)}"


def deletion_subject(region: str, namespace: str, name: str) -> str:
    """`ad.<region>.<ns>.<name>`: somebody asked for this agent to be deleted; written by the API server."""
    return f"ad.{token(region)}.{token(namespace)}.{token(name)}"


def template_subject(region: str, namespace: str, digest: str) -> str:
    """`at.<region>.<ns>.<digest>`: an agent template, immutable, named by its content; written before its agents."""
    return f"at.{token(region)}.{token(namespace)}.{token(digest)}"


def lease_subject(scope: str, name: str) -> str:
    """`al.<scope>.<name>.lease`: who holds a lease; scope is a region or `FLEET_SCOPE`."""
    return f"al.{token(scope)}.{token(name)}.lease"


def epoch_subject(scope: str, name: str) -> str:
    """`al.<scope>.<name>.epoch`: written once per acquisition; its sequence is the epoch."""
    return f"al.{token(scope)}.{token(name)}.epoch"


def fence_subject(scope: str, name: str) -> str:
    """`al.<scope>.<name>.fence`: first message of a fenced batch, conditional on the epoch's sequence."""
    return f"al.{token(scope)}.{token(name)}.fence"


def call_subject(region: str, namespace: str, host: str) -> str:
    """`c.<region>.<ns>.<host>`: calls to the agents of one worker; core NATS, not stored."""
    return f"c.{token(region)}.{token(namespace)}.{token(host)}"


def called_host(subject: str) -> str:
    """The host whose `call_subject` this is; empty if it is no such subject."""
    parts = subject.split(".")
    return untoken(parts[3]) if parts[0] == "c" and len(parts) == 4 else ""


def matches(filter: str, subject: str) -> bool:
    """Whether a NATS filter (`*` one token, `>` one or more at the end) covers `subject`."""
    if filter in (">", subject):
        return True
    wanted, given = filter.split("."), subject.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(given) <= len(wanted):
            return False
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(w in ("*", g) for w, g in zip(wanted, given, strict=True))
