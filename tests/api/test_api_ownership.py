"""What a sequence of writes by several managers makes of an object and of who owns its fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from choregos.api.apply import managed_fields, ownership
from choregos.api.apply.edits import LAST_APPLIED, Apply, Update, created
from choregos.api.apply.fieldset import FieldSet, of, paths
from choregos.api.apply.ownership import Author
from choregos.api.rules.status import Refusal, Subject, failure
from choregos.foundation.errors import Invalid
from choregos.resources.kinds.agentcluster import AGENTCLUSTER

VERSION = "choregos.dev/v1"


def agent(name: str, *below: str) -> tuple[str, ...]:
    return ("f:spec", "f:agents", f'k:{{"name":"{name}"}}', *below)


def label(name: str) -> tuple[str, ...]:
    return ("f:metadata", "f:labels", f"f:{name}")


def unowned(body: dict[str, Any]) -> dict[str, Any]:
    """As validation hands it on."""
    return {**body, "metadata": {name: part for name, part in body["metadata"].items() if name != "managedFields"}}


class Story:
    """One AgentCluster, written by several; its parts are given and compared without what every object has."""

    def __init__(self) -> None:
        self.object: dict[str, Any] = {}
        self._now = 0

    def author(self, manager: str, subresource: str = "", version: str = VERSION) -> Author:
        self._now += 1
        return Author(AGENTCLUSTER, manager, version, subresource, f"2026-01-01T00:00:{self._now:02}Z")

    def whole(self, parts: dict[str, Any], version: str = VERSION) -> dict[str, Any]:
        metadata = {"name": "x", **parts.get("metadata", {})}
        return {"apiVersion": version, "kind": "AgentCluster", **parts, "metadata": metadata}

    def create(self, manager: str, **parts: Any) -> None:
        body = self.whole(parts)
        self.object = created(self.author(manager), body, {**body, "metadata": {**body["metadata"], "uid": "u"}})

    def untracked(self, **parts: Any) -> None:
        """As a controller makes it."""
        self.object = self.whole(parts)

    def change(self, manager: str, change: Callable[[Any], Any], subresource: str = "") -> None:
        edit = Update(self.author(manager, subresource), change)
        body = edit.change(json.loads(json.dumps(self.object)))
        self.object = edit.owned(self.object, body, unowned(body))

    def update(self, manager: str, subresource: str = "", **parts: Any) -> None:
        self.change(manager, lambda old: {**self.whole(parts), **({"status": parts.get("status", {})})}, subresource)

    def apply(
        self, manager: str, *, force: bool = False, subresource: str = "", version: str = VERSION, **parts: Any
    ) -> None:
        edit = Apply(self.author(manager, subresource, version), self.whole(parts, version), force=force)
        body = edit.change(self.object) if self.object else self.whole(edit.config)
        self.object = edit.owned(self.object, body, unowned(body))

    @property
    def spec(self) -> Any:
        return self.object.get("spec")

    @property
    def owners(self) -> dict[str, FieldSet]:
        return {entry.manager: entry.fields for entry in managed_fields.owners_of(AGENTCLUSTER, self.object).values()}

    @property
    def entries(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = managed_fields.opened(self.object)["metadata"].get("managedFields", [])
        return listed


@pytest.fixture
def story() -> Story:
    return Story()


def agents(*names: str, **fields: Any) -> dict[str, Any]:
    return {"agents": [{"name": name, **fields} for name in names]}


def test_what_is_applied_is_owned_and_what_the_server_adds_is_not(story: Story) -> None:
    story.apply("a", metadata={"labels": {"x": "1"}, "uid": "u", "generation": 3}, spec=agents("chat"))
    assert story.owners == {"a": of(label("x"), agent("chat"), agent("chat", "f:name"))}


def test_who_creates_owns_everything_that_is_there_then(story: Story) -> None:
    story.create("a", spec=agents("chat"))
    spec = of(("f:spec",), ("f:spec", "f:agents"), agent("chat"), agent("chat", "f:name"))
    assert story.owners == {"a": spec}


def test_to_apply_the_same_again_is_no_news(story: Story) -> None:
    story.apply("a", spec=agents("chat"))
    before = story.object
    story.apply("a", spec=agents("chat"))
    assert story.object == before


def test_a_second_version_of_the_same_is_owned_under_that_version(story: Story) -> None:
    story.apply("a", spec=agents("chat"))
    story.apply("a", version="v1", spec=agents("chat"))
    assert [(entry["manager"], entry["apiVersion"]) for entry in story.entries] == [("a", "v1")]
    story.change("u", lambda old: {**old, "spec": agents("chat", replicas=2)})
    story.object["metadata"]["managedFields"] = story.object["metadata"]["managedFields"].replace(
        "choregos.dev/v1", "v1"
    )
    story.change("u", lambda old: {**old, "spec": agents("chat", replicas=2, isolation="dedicated")})
    assert [entry["apiVersion"] for entry in story.entries if entry["manager"] == "u"] == ["v1", "choregos.dev/v1"]


def test_what_is_applied_no_more_goes(story: Story) -> None:
    story.apply("a", metadata={"labels": {"x": "1"}}, spec=agents("chat", "search", replicas=2))
    story.apply("a", spec=agents("chat"))
    assert story.spec == agents("chat")
    assert "labels" not in story.object["metadata"]
    assert story.owners == {"a": of(agent("chat"), agent("chat", "f:name"))}
    story.apply("a")
    assert "spec" not in story.object
    assert story.owners == {}


def test_appliers_who_say_the_same_own_it_together(story: Story) -> None:
    story.apply("a", spec=agents("chat", replicas=1))
    story.apply("b", spec=agents("chat", replicas=1))
    assert story.owners["a"] == story.owners["b"]
    story.apply("a", spec=agents("chat"))
    assert story.spec == agents("chat", replicas=1)
    story.apply("b", spec=agents("chat"))
    assert story.spec == agents("chat")


def test_each_removes_only_what_the_others_do_not_name(story: Story) -> None:
    story.apply("a", spec=agents("p", "q", "r"))
    story.apply("b", spec=agents("r", "s"))
    story.apply("a", spec=agents("p"))
    assert story.spec == agents("p", "r", "s")


def test_a_conflict_names_the_owner_and_the_field_and_changes_nothing(story: Story) -> None:
    story.apply("a", spec=agents("chat", replicas=1))
    before = story.object
    with pytest.raises(Refusal) as raised:
        story.apply("b", spec=agents("chat", replicas=2))
    answer = failure(raised.value, Subject("choregos.dev", "AgentCluster", "agentclusters", "x"))
    path = '.spec.agents[name="chat"].replicas'
    assert (answer.code, answer.body["reason"]) == (409, "Conflict")
    assert answer.body["message"] == f'Apply failed with 1 conflict: conflict with "a": {path}'
    assert answer.body["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "a"', "field": path}
    ]
    assert story.object is before


def test_many_conflicts_are_grouped_by_their_owners(story: Story) -> None:
    story.apply("a", spec=agents("chat", replicas=1))
    story.change("u", lambda old: {**old, "metadata": {**old["metadata"], "labels": {"x": "1", "y": "1"}}})
    story.update("s", "status", **{**story.object, "status": {"agents": 1}})
    with pytest.raises(Refusal) as raised:
        story.apply("b", metadata={"labels": {"x": "2", "y": "2"}}, spec=agents("chat", replicas=2))
    assert str(raised.value) == (
        'Apply failed with 3 conflicts: conflicts with "a":\n- .spec.agents[name="chat"].replicas\n'
        f'conflicts with "u" using {VERSION}:\n- .metadata.labels.x\n- .metadata.labels.y'
    )
    with pytest.raises(Refusal, match=r'conflict with "s" with subresource "status" using'):
        story.apply("b", subresource="status", status={"agents": 2})


def test_force_takes_what_is_in_conflict_and_no_more(story: Story) -> None:
    story.apply("a", spec=agents("chat", replicas=1, isolation="shared"))
    story.apply("b", spec=agents("chat", replicas=2), force=True)
    assert story.spec == agents("chat", replicas=2, isolation="shared")
    assert story.owners == {
        "a": of(agent("chat"), agent("chat", "f:name"), agent("chat", "f:isolation")),
        "b": of(agent("chat"), agent("chat", "f:name"), agent("chat", "f:replicas")),
    }


def test_an_update_takes_what_it_changes_from_everybody(story: Story) -> None:
    story.apply("a", spec=agents("chat", replicas=1))
    story.update("u", spec=agents("chat", replicas=5))
    assert story.owners == {"a": of(agent("chat"), agent("chat", "f:name")), "u": of(agent("chat", "f:replicas"))}
    story.apply("a", spec=agents("chat"))
    assert story.spec == agents("chat", replicas=5)
    with pytest.raises(Refusal, match='conflict with "u" using'):
        story.apply("a", spec=agents("chat", replicas=1))


def test_what_an_update_removes_is_owned_by_nobody(story: Story) -> None:
    story.apply("a", metadata={"labels": {"x": "1"}}, spec=agents("chat", "search"))
    story.update("u", spec=agents("chat"))
    assert story.owners == {"a": of(agent("chat"), agent("chat", "f:name"))}


def test_an_update_that_changes_nothing_owns_nothing(story: Story) -> None:
    story.apply("a", spec=agents("chat", "search"))
    before = story.object
    story.change("u", lambda old: old)
    assert story.object == before
    story.change("u", lambda old: {**old, "spec": agents("search", "chat")})
    assert story.owners.keys() == {"a"}  # the order of elements is nobody's


def test_order_is_what_was_applied_last(story: Story) -> None:
    story.apply("a", spec=agents("p", "q", "r", "s"))
    story.update("u", spec=agents("p", "s", "r", "q"))
    story.apply("a", spec=agents("p", "q", "r", "s"))
    assert story.spec == agents("p", "q", "r", "s")


def test_elements_go_with_what_others_have_written_below_them(story: Story) -> None:
    story.apply("a", spec=agents("p", "q"))
    story.update("u", spec=agents("p", "q", replicas=3))
    story.apply("a", spec=agents("p"))
    assert story.spec == agents("p", replicas=3)
    assert story.owners["u"] == of(agent("p", "f:replicas"))


def test_an_element_stays_whole_while_another_applier_names_it(story: Story) -> None:
    story.apply("a", spec={"agents": [{"name": "p"}, {"name": "q", "capabilities": ["c"]}]})
    story.apply("b", spec={"agents": [{"name": "q", "capabilities": ["d"]}]})
    story.update("u", spec={"agents": [{"name": "p"}, {"name": "q", "capabilities": ["c", "d", "e"]}]})
    story.apply("a", spec=agents("p"))
    assert story.spec == {"agents": [{"name": "p"}, {"name": "q", "capabilities": ["d", "e"]}]}


def test_a_part_that_nobody_wants_goes_with_what_dangles_in_it(story: Story) -> None:
    story.apply("a", spec={"orchestrator": {"type": "hierarchical"}, **agents("p")})
    story.object["spec"]["orchestrator"]["levels"] = []  # a default, which nobody owns
    story.apply("a", spec=agents("p"))
    assert story.spec == agents("p")


def test_keys_of_free_form_parts_are_owned_one_by_one(story: Story) -> None:
    story.apply("a", spec=agents("p", settings={"m": {"x": {"y": 1}}, "l": [1, 2]}))
    story.apply("b", spec=agents("p", settings={"m": {"z": 1}}))
    with pytest.raises(Refusal, match=r"settings\.l$"):
        story.apply("b", spec=agents("p", settings={"l": [1]}))
    story.apply("a", spec=agents("p", settings={"l": [1, 2]}))
    assert story.spec == agents("p", settings={"m": {"z": 1}, "l": [1, 2]})


def test_lists_without_names_are_owned_as_a_whole(story: Story) -> None:
    def tolerating(*keys: str) -> Any:
        return agents("p", placement={"tolerations": [{"key": key} for key in keys]})

    story.apply("a", spec=tolerating("x"))
    with pytest.raises(Refusal, match=r"placement\.tolerations$"):
        story.apply("b", spec=tolerating("x", "y"))
    story.apply("b", spec=tolerating("y"), force=True)
    assert story.spec == tolerating("y")
    assert agent("p", "f:placement", "f:tolerations") not in set(paths(story.owners["a"]))


def test_status_and_all_else_have_owners_of_their_own(story: Story) -> None:
    story.apply("a", spec=agents("p"), status={"agents": 3})
    assert "status" not in story.object
    story.update("u", "status", spec=agents("q"), status={"agents": 1})
    assert story.owners["u"] == of(("f:status",), ("f:status", "f:agents"))
    story.apply("s", subresource="status", spec=agents("q"), status={"readyAgents": 1})
    assert story.owners["s"] == of(("f:status", "f:readyAgents"))
    story.apply("s", subresource="status")
    assert story.object["status"] == {"agents": 1}


def test_the_same_manager_has_an_entry_for_each_way_to_write(story: Story) -> None:
    story.apply("m", spec=agents("p"))
    story.change("m", lambda old: {**old, "metadata": {**old["metadata"], "labels": {"x": "1"}}})
    story.change("m", lambda old: {**old, "status": {"agents": 1}}, "status")
    shown = [(entry["operation"], entry.get("subresource")) for entry in story.entries]
    assert shown == [("Apply", None), ("Update", None), ("Update", "status")]


def test_what_controllers_made_is_tracked_when_somebody_applies(story: Story) -> None:
    story.untracked(spec=agents("p", replicas=1))
    story.update("u", spec=agents("p", replicas=2))
    assert story.entries == []
    with pytest.raises(Refusal, match='conflict with "before-first-apply"'):
        story.apply("a", spec=agents("p", replicas=3))
    story.apply("a", spec=agents("p", replicas=3), force=True)
    assert set(story.owners) == {"a", "before-first-apply"}
    story.update("u", spec=agents("p", replicas=4))
    assert story.owners["u"] == of(agent("p", "f:replicas"))


@pytest.mark.parametrize("nobody", [[], [{}]])
def test_owners_are_forgotten_on_request(story: Story, nobody: Any) -> None:
    story.apply("a", spec=agents("p"))
    story.change("u", lambda old: {**old, "metadata": {**old["metadata"], "managedFields": nobody}})
    assert "managedFields" not in story.object["metadata"]


ENTRY = {"manager": "m", "operation": "Apply", "apiVersion": VERSION, "fieldsType": "FieldsV1", "fieldsV1": {"f:a": {}}}


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        "text",
        {},
        [5],
        [{**ENTRY, "operation": "Delete"}],
        [{**ENTRY, "fieldsType": "FieldsV2"}],
        [{**ENTRY, "fieldsV1": {"x": {}}}],
        [{**ENTRY, "fieldsV1": {}}],
        [{**ENTRY, "manager": 5}],
        [{**ENTRY, "manager": "m" * 129}],
        [{**ENTRY, "manager": "m\n"}],
        [{**ENTRY, "apiVersion": ""}],
        [{**ENTRY, "apiVersion": "apps/v1"}],
        [{**ENTRY, "time": "noon"}],
        [{**ENTRY, "time": "0001-01-01T00:00:00+23:59"}],
    ],
)
def test_who_does_not_understand_owners_does_not_destroy_them(story: Story, nonsense: Any) -> None:
    story.apply("a", spec=agents("p"))
    before = story.object
    story.change("u", lambda old: {**old, "metadata": {**old["metadata"], "managedFields": nonsense}})
    assert story.object == before


def test_owners_can_be_rewritten_as_kubectl_does_it(story: Story) -> None:
    story.create("kubectl-client-side-apply", spec=agents("p", "q"))
    (entry,) = story.entries
    rewritten = [{**entry, "manager": "kubectl", "operation": "Apply"}]
    story.change("u", lambda old: {**old, "metadata": {**old["metadata"], "managedFields": rewritten}})
    assert [(entry["manager"], entry["operation"]) for entry in story.entries] == [("kubectl", "Apply")]
    story.apply("kubectl", spec=agents("p"))
    assert story.spec == agents("p")
    # Keys in another order, blanks in a step: the same owners, the same text.
    loose = json.loads(json.dumps(story.entries).replace('{\\"name\\":\\"p\\"}', '{ \\"name\\" : \\"p\\" }'))
    before = story.object
    story.change(
        "u", lambda old: {**old, "metadata": {**old["metadata"], "managedFields": [dict(reversed(loose[0].items()))]}}
    )
    assert story.object == before


def test_a_subresource_does_not_rewrite_owners(story: Story) -> None:
    story.apply("a", spec=agents("p"))
    changed = {"status": {"agents": 1}}
    story.change("u", lambda old: {**old, **changed, "metadata": {**old["metadata"], "managedFields": []}}, "status")
    assert set(story.owners) == {"a", "u"}


def test_of_many_updaters_the_oldest_become_one(story: Story) -> None:
    story.apply("a", spec=agents("p"))
    for number in range(14):
        story.change(
            f"u{number:02}",
            lambda old, n=number: {  # type: ignore[misc]
                **old,
                "metadata": {**old["metadata"], "labels": {**old["metadata"].get("labels", {}), f"l{n}": "x"}},
            },
        )
    updaters = [entry for entry in story.entries if entry["operation"] == "Update"]
    assert len(updaters) == ownership.UPDATERS_MAX
    assert [entry["manager"] for entry in updaters] == ["ancient-changes", *(f"u{n:02}" for n in range(5, 14))]
    ancient = story.owners["ancient-changes"]
    assert {label(f"l{n}") for n in range(5)} <= set(paths(ancient))
    assert updaters[0]["time"] == "2026-01-01T00:00:06Z"


def test_kubectl_takes_over_what_it_has_applied_on_the_clients_side(story: Story) -> None:
    def last(spec: Any) -> dict[str, Any]:
        return {"annotations": {LAST_APPLIED: json.dumps(story.whole({"spec": spec}))}}

    story.create("kubectl-client-side-apply", metadata=last(agents("p", replicas=1)), spec=agents("p", replicas=1))
    with pytest.raises(Refusal):
        story.apply("other", spec=agents("p", replicas=2))
    story.apply("kubectl", spec=agents("p", replicas=2))
    applied = json.loads(story.object["metadata"]["annotations"][LAST_APPLIED])
    assert applied == story.whole({"metadata": {"annotations": {}}, "spec": agents("p", replicas=2)})
    # What has been changed since is somebody else's.
    story.update("u", metadata=last(agents("p", replicas=2)), spec=agents("p", replicas=9, isolation="shared"))
    with pytest.raises(Refusal, match=r"1 conflict: .*replicas$"):
        story.apply("kubectl", spec=agents("p", replicas=3))
    for broken in ("", "{", "[]", '{"apiVersion":"other/v1"}'):
        story.object["metadata"]["annotations"][LAST_APPLIED] = broken
        with pytest.raises(Refusal, match="replicas"):
            story.apply("kubectl", spec=agents("p", replicas=3))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"apiVersion": VERSION, "kind": "AgentSet", "metadata": {}}, "invalid object type"),
        ({"apiVersion": "v1", "kind": "AgentCluster", "metadata": {}}, "invalid object type"),
        ({"kind": "AgentCluster", "metadata": {}}, "invalid object type"),
        ({"apiVersion": VERSION, "kind": "AgentCluster"}, "needs metadata"),
        ({"apiVersion": VERSION, "kind": "AgentCluster", "metadata": {"managedFields": []}}, "must be nil"),
    ],
)
def test_what_is_no_configuration_of_the_kind_is_refused(story: Story, config: Any, said: str) -> None:
    with pytest.raises(Refusal, match=said) as raised:
        Apply(story.author("a"), config, force=False)
    assert raised.value.code == 400


def test_elements_that_cannot_be_told_apart_are_all_refused(story: Story) -> None:
    with pytest.raises(Invalid) as raised:
        story.apply("a", spec={"agents": [{"name": "p"}, {"name": "p"}, {"replicas": 1}]})
    assert [cause.path for cause in raised.value.causes] == ["spec.agents[1]", "spec.agents[2]"]


# A simple model: labels, each with its value, its appliers and its last updater.

NAMES, VALUES = "abc", "xy"
LABELS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES))
WRITES = st.lists(
    st.tuples(st.sampled_from(["apply", "force", "update"]), st.sampled_from(["m", "n", "o"]), LABELS), max_size=8
)


class Model:
    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.appliers: dict[str, set[str]] = {name: set() for name in NAMES}
        self.updater: dict[str, str] = {}

    def _set(self, name: str, value: str | None) -> None:
        """Changes a value: those who owned the old one own nothing any more."""
        if self.values.get(name) != value:
            self.appliers[name] = set()
            self.updater.pop(name, None)
            self.values.pop(name, None)
            if value is not None:
                self.values[name] = value

    def update(self, manager: str, labels: dict[str, str]) -> None:
        for name in NAMES:
            if self.values.get(name) != labels.get(name):
                self._set(name, labels.get(name))
                if name in labels:
                    self.updater[name] = manager

    def apply(self, manager: str, labels: dict[str, str], *, force: bool) -> bool:
        for name, value in labels.items():
            owned = self.appliers[name] - {manager} or name in self.updater
            if owned and self.values[name] != value and not force:
                return False
        for name in NAMES:
            if name in labels:
                self._set(name, labels[name])
                self.appliers[name].add(manager)
            elif manager in self.appliers[name]:
                self.appliers[name].discard(manager)
                if not self.appliers[name] and name not in self.updater:
                    self._set(name, None)
        return True


@given(WRITES)
def test_writes_agree_with_a_simple_model(writes: Any) -> None:
    story, model = Story(), Model()
    story.apply("keeper", spec=agents("p"))
    for how, manager, labels in writes:
        metadata = {"labels": labels} if labels else {}
        if how == "update":
            story.change(manager, lambda old, m=metadata: {**old, "metadata": {**_bare(old), **m}})  # type: ignore[misc]
            model.update(manager, labels)
            continue
        allowed = model.apply(manager, labels, force=how == "force")
        if not allowed:
            with pytest.raises(Refusal):
                story.apply(manager, metadata=metadata)
            continue
        story.apply(manager, metadata=metadata, force=how == "force")
        before = story.object
        story.apply(manager, metadata=metadata, force=how == "force")
        assert story.object == before
    assert (story.object["metadata"].get("labels") or {}) == model.values
    owned = {(entry["manager"], entry["operation"]): entry["fieldsV1"] for entry in story.entries}
    for name in NAMES:
        appliers = {m for (m, operation), f in owned.items() if operation == "Apply" and label(name) in set(paths(f))}
        updaters = {m for (m, operation), f in owned.items() if operation == "Update" and label(name) in set(paths(f))}
        assert appliers == model.appliers[name]
        assert updaters == ({model.updater[name]} if name in model.updater else set())


def _bare(old: Any) -> Any:
    return {name: value for name, value in old["metadata"].items() if name != "labels"}
