"""Default roles and bindings are kept right, roles made of others are filled, every namespace has an account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from control_world import World, controllers, memory_world

from choregos.resources import meta
from choregos.resources.kinds.rbac.role import CLUSTERROLE
from choregos.resources.validation import validate
from choregos.security import rbac
from choregos.security.default_roles import ROLES, aggregated, defaults


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with memory_world() as world, controllers(world):
        yield world


def complete(world: World) -> bool:
    """Whether every default is there, and the roles that are made of others are filled."""
    found = [world.get(resource, wanted["metadata"]["name"], "") for resource, wanted in defaults()]
    roles = world.list(ROLES)
    return all(obj is not None and aggregated(obj, roles) is obj for obj in found)


def verbs(world: World, role: str) -> set[str]:
    found = world.get(ROLES, role, "")
    return {verb for rule in found["rules"] for verb in rule["verbs"]} if found is not None else set()


async def test_defaults_are_made_and_come_back(world: World) -> None:
    await world.until(lambda: complete(world))
    assert verbs(world, "view") == {"get", "list", "watch"}
    assert "impersonate" in verbs(world, "admin")
    for resource, name in (
        (ROLES, "view"),
        (ROLES, "system:aggregate-to-edit"),
        ("clusterrolebindings", "cluster-admin"),
    ):
        await remove(world, resource, name)
        await world.until(lambda: complete(world), f"{name} comes back")


async def remove(world: World, resource: str, name: str) -> None:
    await world.resources.delete(resource, world.get(resource, name, ""))


async def change(world: World, resource: str, name: str, **parts: Any) -> None:
    await world.resources.update(resource, {**world.get(resource, name, ""), **parts})


async def test_what_is_taken_from_a_default_comes_back_and_what_is_added_stays(world: World) -> None:
    await world.until(lambda: complete(world))
    added = {"verbs": ["get"], "apiGroups": ["example.org"], "resources": ["things"]}
    await change(world, ROLES, "system:basic-user", rules=[added])
    (wanted,) = (each for _, each in defaults() if each["metadata"]["name"] == "system:basic-user" and "rules" in each)

    def right() -> bool:
        rules = world.get(ROLES, "system:basic-user", "")["rules"]
        return added in rules and not rbac.uncovered(rbac.rules(rules), rbac.rules(wanted["rules"]))

    await world.until(right)


async def test_a_role_follows_those_that_it_is_made_of(world: World) -> None:
    await world.until(lambda: complete(world))
    rule = {"verbs": ["paint"], "apiGroups": ["example.org"], "resources": ["walls"]}
    label = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
    painters = validate(CLUSTERROLE, {"metadata": {"name": "painters", "labels": label}, "rules": [rule]}).object
    await world.resources.create(ROLES, meta.created(painters, "uid-of-painters", world.clock.wall_ms()))
    for role in ("view", "edit", "admin"):
        await world.until(lambda role=role: "paint" in verbs(world, role), role)
    await remove(world, ROLES, "painters")
    await world.until(lambda: not any("paint" in verbs(world, role) for role in ("view", "edit", "admin")))


async def test_every_namespace_has_an_account_for_as_long_as_it_stays(world: World) -> None:
    await world.create("namespaces", {"metadata": {"name": "team", "finalizers": ["kubernetes"]}})
    await world.until(lambda: world.get("serviceaccounts", "default", "team"))
    first = world.get("serviceaccounts", "default", "team")
    await world.resources.delete("serviceaccounts", first)
    await world.until(lambda: world.get("serviceaccounts", "default", "team"))
    assert world.get("serviceaccounts", "default", "team")["metadata"]["uid"] != first["metadata"]["uid"]
    await world.delete("namespaces", "team")
    await world.until(lambda: world.get("namespaces", "team", "") is None)
    assert world.get("serviceaccounts", "default", "team") is None
