"""The names that a ResourceQuota may limit, and what each of them stands for. Data only.

A name stands for an amount of what is declared for agents, or for the number of objects of one resource. Kubernetes'
words for the same are accepted beside ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from choregos.resources.kind import Kind
from choregos.resources.meta import GROUP

AGENTS, CPU, MEMORY, GPU = "agents", "cpu", "memory", "gpu"

DECLARED: Mapping[str, str] = MappingProxyType(
    {
        **{AGENTS: AGENTS, "pods": AGENTS},
        **{CPU: CPU, "requests.cpu": CPU},
        **{MEMORY: MEMORY, "requests.memory": MEMORY},
        **{GPU: GPU, f"requests.{GROUP}/gpu": GPU, "requests.nvidia.com/gpu": GPU},
    }
)
"""Name → amount of what is declared for agents."""

_WORDS = ("configmaps", "resourcequotas", "secrets")
"""Resources that Kubernetes counts under their bare names, too."""


def counted(kinds: Iterable[Kind]) -> dict[str, str]:
    """Name → resource whose objects are counted, of those of these kinds that a namespace can hold."""
    held = [kind for kind in kinds if kind.namespaced and kind.plane == "declarative" and "create" in kind.verbs]
    names = {f"count/{kind.plural}.{kind.group}" if kind.group else f"count/{kind.plural}": kind for kind in held}
    return {name: kind.plural for name, kind in names.items()} | {word: word for word in _WORDS}
