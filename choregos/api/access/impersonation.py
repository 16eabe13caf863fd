"""Acting as somebody else (`kubectl --as`, `--as-group`, `--as-uid`), for those who may `impersonate`.

Invariant: every part of the other identity is authorized by itself: the user or service account, each group, the uid,
and each value of each further fact. Follows "User impersonation" of the Kubernetes documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote

from starlette.datastructures import Headers

from choregos.api.rules.status import bad_request
from choregos.security.rbac import AUTHENTICATED, Attributes, User, account_groups, account_of

_USER, _GROUP, _UID, _EXTRA = "impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-"
_AUTHENTICATION = "authentication.k8s.io"

PARTS_MAX = 128
"""Groups and facts in one request."""


def wanted_user(headers: Headers) -> User | None:
    """Whom the request wants to be; None: nobody else.

    Raises:
        Refusal: 400, it names groups or facts but no user, or too many.
    """
    name, groups, uid = headers.get(_USER, ""), tuple(headers.getlist(_GROUP)), headers.get(_UID, "")
    extra: dict[str, tuple[str, ...]] = {}
    for header, value in headers.items():
        if header.startswith(_EXTRA):
            key = unquote(header.removeprefix(_EXTRA))
            extra[key] = (*extra.get(key, ()), value)
    if len(groups) + sum(map(len, extra.values())) > PARTS_MAX:
        raise bad_request(f"a request impersonates at most {PARTS_MAX} groups and facts")
    if not name:
        if groups or uid or extra:
            raise bad_request("groups, uid and extra can be impersonated together with a user only")
        return None
    return User(name, groups, uid, extra)


def needed(other: User) -> Iterator[Attributes]:
    """All that whoever wants to be this user must be allowed."""
    account = account_of(other.name)
    if account is not None:
        namespace, name = account
        yield Attributes("impersonate", version="v1", resource="serviceaccounts", namespace=namespace, name=name)
    else:
        yield Attributes("impersonate", version="v1", resource="users", name=other.name)
    for group in other.groups:
        yield Attributes("impersonate", version="v1", resource="groups", name=group)
    facts = {"group": _AUTHENTICATION, "version": "v1"}
    if other.uid:
        yield Attributes("impersonate", resource="uids", name=other.uid, **facts)
    for key, values in other.extra.items():
        for value in values:
            yield Attributes("impersonate", resource="userextras", subresource=key, name=value, **facts)


def completed(other: User) -> User:
    """With the groups that such a user has by being known."""
    account = account_of(other.name)
    groups = other.groups
    if account is not None and not groups:
        groups = account_groups(account[0])
    if AUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return User(other.name, groups, other.uid, other.extra)
