"""What `choregos up` may be asked for, and whether that makes sense.

Invariant: a machine is made only from options that `check` has passed, so what an option breaks is told before anything
is written, by the option's name. What only the machine itself can tell, such as a port that is taken, is checked there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from choregos.foundation.errors import FieldError, Invalid
from choregos.resources import names, quantity

API_PORT_DEFAULT = 7443
PORT_MAX = 65535
WORKERS_MAX = 1024
CAPACITY_NAMES = ("cpu", "memory", "gpu", "agents")
_MAY_BE_NONE = ("gpu",)


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `choregos up` was asked for.

    Attributes:
        region: empty: the data directory's, `local` in a new one.
        node: name of the AgentNode; empty: the last one, else the host name.
        api_port: 0 for any free one.
        bus_port: None: the last one if it is free, else any.
        workers: shared worker processes per namespace; 0: one per core.
        capacity: declared capacity by resource name; empty: measured.
    """

    data_directory: Path
    region: str = ""
    node: str = ""
    api_host: str = "127.0.0.1"
    api_port: int = API_PORT_DEFAULT
    bus_port: int | None = None
    workers: int = 0
    capacity: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises: Invalid, with every option that makes no sense."""
        faults = tuple(self._faults())
        if faults:
            raise Invalid("`choregos up` cannot be started like this; nothing was changed", faults)

    def _faults(self) -> Iterator[FieldError]:
        yield from _name_fault("--region", self.region, names.word_fault, "eu-west")
        yield from _name_fault("--name", self.node, names.subdomain_fault, "node-1")
        yield from _port_fault("--api-port", self.api_port)
        yield from _port_fault("--bus-port", self.bus_port or 0)
        if not 0 <= self.workers <= WORKERS_MAX:
            yield FieldError("--workers", f"from 1 to {WORKERS_MAX}, or 0 for one per core; found {self.workers}")
        for name, value in self.capacity.items():
            fault = _amount_fault(name, value)
            if fault:
                yield FieldError("--capacity", fault)


def parse_capacity(text: str) -> dict[str, str]:
    """`cpu=128,memory=512Gi,gpu=64` by resource name; empty for an empty text. The options' check is of the amounts.

    Raises:
        Invalid: a part is not `resource=quantity`, names an unknown resource, or one for the second time.
    """
    capacity: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in CAPACITY_NAMES or not value:
            raise Invalid(f"--capacity: {part!r} is not one of {', '.join(f'{n}=QUANTITY' for n in CAPACITY_NAMES)}")
        if name in capacity:
            raise Invalid(f"--capacity: {name} is given twice")
        capacity[name] = value
    return capacity


def require_port(option: str, port: int) -> None:
    """Raises: Invalid, this cannot be a port."""
    if not 1 <= port <= PORT_MAX:
        raise Invalid(f"{option}: a port is from 1 to {PORT_MAX}; found {port}")


def _port_fault(option: str, port: int) -> Iterator[FieldError]:
    if not 0 <= port <= PORT_MAX:
        yield FieldError(option, f"a port is from 1 to {PORT_MAX}, or 0 for any free one; found {port}")


def _name_fault(option: str, name: str, fault_of: Callable[[str], str], example: str) -> Iterator[FieldError]:
    fault = fault_of(name) if name else ""
    if fault:
        yield FieldError(option, f"{fault}, such as {example}")


def _amount_fault(name: str, value: str) -> str:
    try:
        amount = quantity.parse(value)
    except ValueError as error:
        return f"{name}: {error}"
    if amount < 0 or (amount == 0 and name not in _MAY_BE_NONE):
        return f"{name}={value}: more than 0 is needed; leave it out to have the machine measured"
    if name == "agents" and amount % 1000:
        return f"{name}={value}: a whole number is needed"
    return ""
