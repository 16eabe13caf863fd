"""The index of grants agrees with a look at everything that is stored, whatever was written in whatever order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from choregos.api.access.grants import Grants
from choregos.foundation.clock import SystemClock
from choregos.security import rbac
from choregos.security.rbac import Attributes, User
from choregos.store.backends.memory import MemoryLog
from choregos.store.resources import ResourceStore

NAMESPACES, NAMES, USERS = ["a", "b"], ["r", "s"], ["eve", "adam", "system:serviceaccount:a:eve"]
SUBJECTS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["User", "Group", "ServiceAccount"]), "name": st.sampled_from(["eve", "adam", "team"])},
    optional={"namespace": st.sampled_from(NAMESPACES)},
)
RULES = st.lists(
    st.fixed_dictionaries(
        {
            "verbs": st.lists(st.sampled_from(["get", "list", "*"]), min_size=1, max_size=2),
            "apiGroups": st.just([""]),
            "resources": st.lists(st.sampled_from(["pods", "secrets", "*"]), min_size=1, max_size=2),
        }
    ),
    max_size=2,
)
ROLES = st.tuples(st.sampled_from(["", *NAMESPACES]), st.sampled_from(NAMES), RULES)
BINDINGS = st.tuples(
    st.sampled_from(["", *NAMESPACES]),
    st.sampled_from(NAMES),
    st.lists(SUBJECTS, max_size=3),
    st.tuples(st.sampled_from(["Role", "ClusterRole"]), st.sampled_from(NAMES)),
)
STEPS = st.lists(
    st.tuples(st.just("role"), ROLES | st.tuples(st.sampled_from(["", *NAMESPACES]), st.sampled_from(NAMES), st.none()))
    | st.tuples(st.just("binding"), BINDINGS)
    | st.tuples(st.just("unbind"), st.tuples(st.sampled_from(["", *NAMESPACES]), st.sampled_from(NAMES))),
    max_size=12,
)


def metadata(namespace: str, name: str) -> dict[str, Any]:
    return {"name": name, "uid": "u", **({"namespace": namespace} if namespace else {})}


async def write(store: ResourceStore, resource: str, obj: dict[str, Any]) -> None:
    """Creates or replaces; an object of None deletes."""
    name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace", "")
    found = next((each for each in store.list(resource, namespace).items if each["metadata"]["name"] == name), None)
    if namespace == "" and found is not None and found["metadata"].get("namespace"):
        found = None
    if obj.get("gone"):
        if found is not None:
            await store.delete(resource, found)
    elif found is None:
        await store.create(resource, obj)
    else:
        version = found["metadata"]["resourceVersion"]
        await store.update(resource, {**obj, "metadata": {**obj["metadata"], "resourceVersion": version}})


async def perform(store: ResourceStore, step: tuple[str, Any]) -> None:
    what, value = step
    namespace, name = value[0], value[1]
    obj: dict[str, Any] = {"metadata": metadata(namespace, name)}
    if what == "role":
        obj |= {"gone": True} if value[2] is None else {"rules": value[2]}
        await write(store, "roles" if namespace else "clusterroles", obj)
        return
    if what == "binding":
        obj |= {"subjects": value[2], "roleRef": {"kind": value[3][0], "name": value[3][1]}}
    else:
        obj["gone"] = True
    await write(store, "rolebindings" if namespace else "clusterrolebindings", obj)


def naive(store: ResourceStore, user: User, wanted: Attributes) -> bool:
    """Every binding, every subject, every rule."""
    bindings = [*store.list("clusterrolebindings").items]
    if wanted.namespace:
        bindings += store.list("rolebindings", wanted.namespace).items
    for binding in bindings:
        key = rbac.role_key(binding)
        if key is None or not set(rbac.subject_keys(binding)) & set(rbac.keys_of(user)):
            continue
        roles = store.list("roles", key[0]).items if key[0] else store.list("clusterroles").items
        for role in roles:
            if role["metadata"]["name"] == key[1] and any(each.allows(wanted) for each in rbac.rules(role["rules"])):
                return True
    return False


def questions() -> Iterator[tuple[User, Attributes]]:
    for name in USERS:
        for groups in ((), ("team",), ("eve", "team")):
            for namespace in ("", *NAMESPACES):
                for verb, resource in (("get", "pods"), ("list", "secrets"), ("x", "pods")):
                    yield User(name, groups), Attributes(verb, resource=resource, namespace=namespace)


@settings(deadline=None)
@given(STEPS, st.integers(0, 12))
def test_the_index_agrees_with_a_look_at_everything(steps: list[tuple[str, Any]], start: int) -> None:
    async def run() -> None:
        clock = SystemClock()
        async with ResourceStore(MemoryLog(clock), clock) as store:
            for step in steps[:start]:
                await perform(store, step)
            grants = Grants(store)
            for step in steps[start:]:
                await perform(store, step)
            for user, wanted in questions():
                decision = grants.decide(user, wanted)
                assert decision.allowed is naive(store, user, wanted), (user, wanted)
                held = grants.rules_of(user, wanted.namespace)
                assert any(each.allows(wanted) for each in held) is decision.allowed
            grants.close()

    asyncio.run(run())


async def test_administrators_need_no_stored_role() -> None:
    clock = SystemClock()
    async with ResourceStore(MemoryLog(clock), clock) as store:
        grants, admin = Grants(store), User("admin", ("system:masters",))
        assert grants.decide(admin, Attributes("delete", resource="namespaces", name="x")).allowed
        assert (
            rbac.uncovered(grants.rules_of(admin, ""), rbac.rules([{"verbs": ["*"], "nonResourceURLs": ["*"]}])) == []
        )
        grants.close()
        grants.close()
