"""The names that a ResourceQuota may limit, and what each of them stands for. Data only.

A name stands for an amount of what is declared for agents, or for the number of objects of one resource. Kubernetes'
words for the same are accepted beside ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from choregos.resources.meta import GROUP
from choregos.resources.registry import KINDS

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


def _counted() -> dict[str, str]:
    kinds = [kind for kind in KINDS if kind.namespaced and kind.plane == "declarative" and "create" in kind.verbs]
    names = {f"count/{kind.plural}.{kind.group}" if kind.group else f"count/{kind.plural}": kind for kind in kinds}
    return {name: kind.plural for name, kind in names.items()} | {word: word for word in _WORDS}


COUNTED: Mapping[str, str] = MappingProxyType(_counted())
"""Name → resource whose objects are counted."""
