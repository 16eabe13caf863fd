"""ConfigMap (core/v1): settings that are no secret, by key."""

from __future__ import annotations

from collections.abc import Iterator

from choregos.foundation.errors import FieldError
from choregos.resources.columns import AGE, NAME
from choregos.resources.kind import Column, Kind, ReadOnlyObject
from choregos.resources.kinds.core.contents import Base64, DataKey, count, keys, lock_faults
from choregos.resources.kinds.parts import Resource


class ConfigMap(Resource):
    """Settings by key. At most 1 MiB in all."""

    data: dict[DataKey, str] | None = None
    """Text by key."""
    binary_data: dict[DataKey, Base64] | None = None
    """Bytes by key, in base64. No key may be in `data` too."""
    immutable: bool | None = None
    """True: data and binaryData cannot be changed any more, and this cannot be taken back."""


def rules(obj: ReadOnlyObject) -> Iterator[FieldError]:
    for key in sorted(keys(obj.get("data")) & keys(obj.get("binaryData"))):
        yield FieldError(f"binaryData[{key}]", "is a key of data too", "FieldValueDuplicate")


CONFIGMAP = Kind(
    group="",
    version="v1",
    kind="ConfigMap",
    plural="configmaps",
    singular="configmap",
    namespaced=True,
    model=ConfigMap,
    short_names=("cm",),
    has_status=False,
    columns=(NAME, Column("Data", count, type="integer", description="Entries."), AGE),
    rules=rules,
    changes=lock_faults,
)
