"""What a request wants in the terms of rules, and what is said when no rule allows it.

The words are Kubernetes' own, for people search for them; behind them is the rule that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from choregos.api.rules import paths
from choregos.api.rules.options import is_watch
from choregos.api.rules.paths import Target
from choregos.api.rules.status import Refusal
from choregos.resources.registry import by_plural
from choregos.resources.selectors import parse_field_selector
from choregos.security.rbac import Attributes, Rule, User

_COLLECTIVE = frozenset({"list", "watch", "deletecollection"})


def attributes(method: str, path: str, query: Mapping[str, str]) -> tuple[Attributes, Target | None]:
    """What a request wants, and its target; None if that is no resource.

    Args:
        method: `WEBSOCKET` for a handshake, which begins what runs in an agent, so that it is a `create`.

    Raises:
        Refusal: 400, a query parameter cannot be read.
    """
    target = paths.parse(path)
    if target is None:
        return Attributes(method.lower(), path), None
    kind = by_plural(target.group, target.version, target.resource)
    if kind is not None:
        target = replace(target, resource=kind.plural)
    verb = "create" if method == WEBSOCKET else paths.verb(method, target, watch=is_watch(query))
    name = target.name
    if not name and verb in _COLLECTIVE:
        # A list of the one object of that name is allowed to whoever may list that one.
        name = _selected_name(query.get("fieldSelector", ""))
    # The name of a namespace is a namespace too: what is granted inside of it may be about itself.
    in_itself = (target.group, target.resource) == ("", "namespaces")
    wanted = Attributes(
        verb,
        group=target.group,
        version=target.version,
        resource=target.resource,
        subresource=target.subresource,
        namespace=target.name if in_itself else target.namespace,
        name=name,
    )
    return wanted, target


WEBSOCKET = "WEBSOCKET"


def _selected_name(selector: str) -> str:
    try:
        return parse_field_selector(selector).value_of("metadata.name") or ""
    except ValueError:
        return ""  # whoever answers the request says what is wrong with it


def forbidden(user: User, wanted: Attributes) -> Refusal:
    """403, with the rule that is missing."""
    return Refusal(403, "Forbidden", f"{_words(user, wanted)}: {missing(wanted)}")


def _words(user: User, wanted: Attributes) -> str:
    if wanted.path:
        return f'forbidden: User "{user.name}" cannot {wanted.verb} path "{wanted.path}"'
    qualified = f"{wanted.resource}.{wanted.group}" if wanted.group else wanted.resource
    name = f' "{wanted.name}"' if wanted.name else ""
    scope = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
    return (
        f'{qualified}{name} is forbidden: User "{user.name}" cannot {wanted.verb} resource "{wanted.combined}" '
        f'in API group "{wanted.group}" {scope}'
    )


def missing(wanted: Attributes) -> str:
    """The rule that would allow it, and where it would have to be."""
    if wanted.path:
        rule = Rule(frozenset({wanted.verb}), paths=frozenset({wanted.path}))
    else:
        rule = Rule(frozenset({wanted.verb}), frozenset({wanted.group}), frozenset({wanted.combined}))
    text = msgspec.json.encode(rule.document()).decode()
    if wanted.namespace:
        return f'no Role or ClusterRole that is bound to the user in "{wanted.namespace}" has the rule {text}'
    return f"no ClusterRole that is bound to the user by a ClusterRoleBinding has the rule {text}"
