"""Arguments and results as msgpack: builtin values, dataclasses, msgspec Structs, and pydantic models if there are any.

pydantic is never imported from here: where nobody has imported it, no value can be a model.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from choregos.foundation.errors import InvalidArguments, PayloadTooLarge
from choregos.wire.calls import PAYLOAD_BYTES_MAX


def is_pydantic_model(type_: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(type_, type) and issubclass(type_, pydantic.BaseModel)


def _encode_foreign(value: Any) -> Any:
    if is_pydantic_model(type(value)):
        return value.model_dump(mode="json")
    raise NotImplementedError(f"a value of type {type(value).__name__} cannot be sent")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_foreign)
_decoder = msgspec.msgpack.Decoder()

decode = _decoder.decode
"""The value as builtin types: dict, list, str, bytes, int, float, bool, datetime, None."""


def encode(value: Any) -> bytes:
    """One msgpack value.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: it, or something in it, has no msgpack form.
    """
    return _encoder.encode(value)


def encode_arguments(arguments: Mapping[str, Any]) -> bytes:
    """A msgpack map of the arguments of a call.

    Raises:
        InvalidArguments: one of them cannot be sent.
        PayloadTooLarge: they are too many bytes.
    """
    try:
        encoded = _encoder.encode(arguments if type(arguments) is dict else dict(arguments))
    except (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError) as error:
        raise InvalidArguments(f"the arguments cannot be sent: {error}") from error
    check_size(encoded, "the arguments")
    return encoded


def check_size(encoded: bytes, what: str) -> None:
    """Raises:
    PayloadTooLarge: `encoded` is over the limit.
    """
    if len(encoded) > PAYLOAD_BYTES_MAX:
        raise PayloadTooLarge(
            f"{what}: {len(encoded):,} bytes, and the limit is {PAYLOAD_BYTES_MAX:,}; "
            "put large data into an object store and send its name"
        )
