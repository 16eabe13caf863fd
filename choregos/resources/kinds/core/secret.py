"""Secret (core/v1): bytes that few may read, by key.

Invariant: no fault and no column of this kind says what is in a secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from choregos.foundation.errors import FieldError
from choregos.resources.columns import AGE, NAME, path
from choregos.resources.kind import Column, Kind, ReadOnlyObject
from choregos.resources.kinds.core.contents import Base64, DataKey, count, encoded, keys, lock_faults
from choregos.resources.kinds.parts import Resource

OPAQUE = "Opaque"
ACCOUNT_TOKEN = "kubernetes.io/service-account-token"  # noqa: S105 a type, no secret

_KEYS_OF_TYPE = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/dockercfg": (".dockercfg",),
}
_BASIC_AUTH = "kubernetes.io/basic-auth"


class Secret(Resource):
    """Passwords, keys and the like, by key. At most 1 MiB in all. Not encrypted where it is stored."""

    data: dict[DataKey, Base64] | None = None
    """Bytes by key, in base64."""
    string_data: dict[DataKey, str] | None = None
    """Text by key, for writing only: it is stored in `data`, over what that has under the same key."""
    type: str = Field(default=OPAQUE, min_length=1, max_length=253)
    """What is in it. `Opaque`, the default, asks for nothing; `kubernetes.io/tls`, `kubernetes.io/basic-auth`,
    `kubernetes.io/ssh-auth` and `kubernetes.io/dockerconfigjson` ask for their keys. Cannot be changed."""
    immutable: bool | None = None
    """True: data cannot be changed any more, and this cannot be taken back."""

    @model_validator(mode="after")
    def _with_text_in_data(self) -> Self:
        if self.string_data is not None:
            texts = {key: encoded(text) for key, text in self.string_data.items()}
            self.data = {**(self.data or {}), **texts}
            self.string_data = None
        return self


def rules(obj: ReadOnlyObject) -> Iterator[FieldError]:
    type_ = obj.get("type")
    if not isinstance(type_, str):
        return
    found = keys(obj.get("data")) | keys(obj.get("stringData"))
    for key in _KEYS_OF_TYPE.get(type_, ()):
        if key not in found:
            yield FieldError(f"data[{key}]", f"is required in a secret of type {type_}", "FieldValueRequired")
    if type_ == _BASIC_AUTH and not found & {"username", "password"}:
        yield FieldError("data", f"username or password is required in a secret of type {type_}", "FieldValueRequired")
    if type_ == ACCOUNT_TOKEN:
        message = "tokens that never end are not made; `kubectl create token` makes one that does"
        yield FieldError("type", message, "FieldValueNotSupported")


SECRET = Kind(
    group="",
    version="v1",
    kind="Secret",
    plural="secrets",
    singular="secret",
    namespaced=True,
    model=Secret,
    has_status=False,
    columns=(
        NAME,
        Column("Type", path("type"), description="What is in it."),
        Column("Data", count, type="integer", description="Entries."),
        AGE,
    ),
    rules=rules,
    immutable=("type",),
    changes=lock_faults,
)
