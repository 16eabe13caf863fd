"""What the server serves, and how people call it: from aggregated discovery (`apidiscovery.k8s.io/v2`). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from choregos.foundation.errors import Invalid

ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
OUR_GROUP = "choregos.dev"


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One served resource in one version.

    Attributes:
        names: every word that means it: plural, singular, short names; lower case.
        subresources: `status`, `scale`, `log`.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    names: frozenset[str]
    categories: frozenset[str] = frozenset()
    verbs: frozenset[str] = frozenset()
    subresources: frozenset[str] = frozenset()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`agents.choregos.dev`: as `kubectl get -o name` prints it."""
        return f"{self.kind.lower()}.{self.group}" if self.group else self.kind.lower()

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """The URL path of the collection, of one object, or of one subresource; an empty namespace means all."""
        prefix = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        parts = [self.plural, *(part for part in (name, subresource) if part)]
        return f"{prefix}{scope}/{'/'.join(parts)}"


class Catalogue:
    """Every served resource. Where one is served under several groups, ours is meant unless another is named."""

    def __init__(self, types: Iterable[ResourceType]) -> None:
        self._types: Sequence[ResourceType] = sorted(types, key=lambda t: (t.group != OUR_GROUP, t.group, t.plural))

    def by_word(self, word: str) -> ResourceType:
        """What `word` means: `agents`, `ag`, `Agent`, `agents.choregos.dev`, `agents.v1.choregos.dev`.

        Raises:
            Invalid: nothing; the message lists what there is.
        """
        found = self._find(word)
        if found is None:
            known = ", ".join(sorted({_spelling(t) for t in self._types if "get" in t.verbs or "list" in t.verbs}))
            raise Invalid(f"the server has no resource type {word!r}; it has {known}")
        return found

    def by_words(self, words: str) -> list[ResourceType]:
        """The types of a list such as `agents,agentsets`, or of a category such as `all`."""
        types: dict[ResourceType, None] = {}
        for word in filter(None, words.split(",")):
            members = [t for t in self._types if word in t.categories and t.group == self._preferred(t.kind)]
            types.update(dict.fromkeys(members or [self.by_word(word)]))
        return list(types)

    def by_kind(self, api_version: str, kind: str) -> ResourceType:
        """The type of a manifest.

        Raises:
            Invalid: the server does not serve it.
        """
        for candidate in self._types:
            if candidate.kind == kind and candidate.api_version == api_version:
                return candidate
        served = sorted(t.api_version for t in self._types if t.kind == kind)
        hint = f"; it serves {kind} as {', '.join(served)}" if served else ""
        raise Invalid(f"the server does not serve {kind} of {api_version}{hint}")

    def _find(self, word: str) -> ResourceType | None:
        name, _, rest = word.lower().partition(".")
        for candidate in self._types:
            qualifiers = ("", candidate.group, f"{candidate.version}.{candidate.group}")
            if name in candidate.names and rest in qualifiers:
                return candidate
        return None

    def _preferred(self, kind: str) -> str:
        return next(t.group for t in self._types if t.kind == kind)


def parse_catalogue(documents: Iterable[Mapping[str, Any]]) -> Catalogue:
    """From the `APIGroupDiscoveryList` documents of `/api` and `/apis`."""
    return Catalogue(
        _resource(group["metadata"].get("name", ""), version["version"], resource)
        for document in documents
        for group in document.get("items") or ()
        for version in group.get("versions") or ()
        for resource in version.get("resources") or ()
    )


def _resource(group: str, version: str, entry: Mapping[str, Any]) -> ResourceType:
    kind, plural = entry["responseKind"]["kind"], entry["resource"]
    singular = entry.get("singularResource") or kind.lower()
    return ResourceType(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        singular=singular,
        namespaced=entry["scope"] == "Namespaced",
        names=frozenset({plural, singular, kind.lower(), *(entry.get("shortNames") or ())}),
        categories=frozenset(entry.get("categories") or ()),
        verbs=frozenset(entry.get("verbs") or ()),
        subresources=frozenset(s["subresource"] for s in entry.get("subresources") or ()),
    )


def _spelling(resource: ResourceType) -> str:
    short = sorted(resource.names - {resource.plural, resource.singular}, key=len)
    return f"{resource.plural} ({short[0]})" if short else resource.plural
