"""kubeconfig files: writes ours, reads anybody's. Format: Kubernetes `client.config.k8s.io/v1`.

Ours embeds its certificates, so that it can be copied to another machine as one file; hence mode 0600.
Does not run credential plugins (`exec`, `auth-provider`): a kubeconfig that needs one is refused with that reason.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from choregos.foundation.errors import Invalid, NotFound
from choregos.foundation.files import write_atomic


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """Where an API server is, how it proves itself, and how its client does.

    Attributes:
        server: URL, `https://127.0.0.1:7443`.
        authority_pem: certificates that its certificate must be signed by; empty: the system's.
        certificate_pem, key_pem: the client's; empty if it has a token.
        token: bearer token; empty if it has a certificate.
        token_file: where the token was read; whoever renews it writes it there, so read it again.
        namespace: used when none is named.
        server_name: name expected in the server's certificate when it is not the URL's; empty if it is.
    """

    server: str
    authority_pem: bytes = b""
    certificate_pem: bytes = b""
    key_pem: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    namespace: str = "default"
    server_name: str = ""


def write_kubeconfig(path: Path, access: ApiAccess, *, name: str = "choregos", user: str = "admin") -> None:
    """Writes a kubeconfig with one context, and the token or else the certificate of `access`; nothing is touched when
    it says the same already."""
    cluster = {"server": access.server, "certificate-authority-data": _encode(access.authority_pem)}
    credentials = {"token": access.token}
    if not access.token:
        credentials = {
            "client-certificate-data": _encode(access.certificate_pem),
            "client-key-data": _encode(access.key_pem),
        }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": user, "user": credentials}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user, "namespace": access.namespace}}],
        "current-context": name,
    }
    content = yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False).encode()
    if not path.exists() or path.read_bytes() != content:
        write_atomic(path, content)


def load_kubeconfig(paths: Sequence[Path], *, context: str = "") -> ApiAccess:
    """How the current context (or the one named) reaches its server.

    Args:
        paths: the files of `$KUBECONFIG`; as with kubectl the first that defines a name wins, and missing ones are
            passed over as long as one is there.

    Raises:
        NotFound: none of the files exists.
        Invalid: one is not a kubeconfig, or the context is incomplete or needs what is not supported.
    """
    existing = [path for path in paths if path.exists()]
    if not existing:
        raise NotFound(f"there is no kubeconfig at {', '.join(map(str, paths)) or 'any known place'}")
    documents = [(path, _load(path)) for path in existing]
    current = context or next((str(d["current-context"]) for _, d in documents if d.get("current-context")), "")
    chosen, origin = _entry(documents, "contexts", "context", current)
    cluster, cluster_path = _entry(documents, "clusters", "cluster", chosen.get("cluster", ""), origin)
    user, user_path = _entry(documents, "users", "user", chosen.get("user", ""), origin)
    for plugin in ("exec", "auth-provider"):
        if plugin in user:
            raise Invalid(f"{user_path}: user {chosen['user']!r} signs in by {plugin!r}, which is not supported")
    if not cluster.get("server"):
        raise Invalid(f"{cluster_path}: cluster {chosen['cluster']!r} names no server")
    if cluster.get("insecure-skip-tls-verify"):
        raise Invalid(
            f"{cluster_path}: cluster {chosen['cluster']!r} asks not to verify the server, which is not supported; "
            "give its certificate-authority instead"
        )
    token_file = None
    if user.get("tokenFile") and not user.get("token"):
        token_file = user_path.parent / Path(user["tokenFile"]).expanduser()
    return ApiAccess(
        server=str(cluster["server"]).rstrip("/"),
        authority_pem=_bytes(cluster, "certificate-authority", cluster_path),
        certificate_pem=_bytes(user, "client-certificate", user_path),
        key_pem=_bytes(user, "client-key", user_path),
        token=_token(user, token_file, user_path),
        token_file=token_file,
        namespace=chosen.get("namespace") or "default",
        server_name=str(cluster.get("tls-server-name", "")),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        document = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise Invalid(f"the kubeconfig {path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise Invalid(f"{path} is not a kubeconfig: a mapping with clusters, users and contexts was expected")
    return document


def _entry(
    documents: Sequence[tuple[Path, dict[str, Any]]], section: str, part: str, name: str, origin: Path | None = None
) -> tuple[dict[str, Any], Path]:
    """The named entry of a section, from the first file that has it, and that file."""
    for path, document in documents:
        for entry in document.get(section) or []:
            if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(part), dict):
                return entry[part], path
    where = origin or documents[0][0]
    raise Invalid(f"{where}: there is no {part} named {name!r}" if name else f"{where}: no {part} is chosen")


def _bytes(entry: dict[str, Any], key: str, path: Path) -> bytes:
    """A PEM given in place (`<key>-data`, base64) or as a file beside the kubeconfig."""
    data = entry.get(f"{key}-data")
    try:
        if data:
            return base64.b64decode(data, validate=True)
        if entry.get(key):
            return (path.parent / Path(entry[key]).expanduser()).read_bytes()
    except (OSError, TypeError, binascii.Error) as error:
        raise Invalid(f"{path}: {key} cannot be read: {error}") from error
    return b""


def _token(user: dict[str, Any], token_file: Path | None, path: Path) -> str:
    if token_file is None:
        return str(user.get("token") or "")
    try:
        return token_file.read_text().strip()
    except OSError as error:
        raise Invalid(f"{path}: tokenFile cannot be read: {error}") from error


def _encode(pem: bytes) -> str:
    return base64.b64encode(pem).decode()
