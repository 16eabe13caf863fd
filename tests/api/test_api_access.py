"""The gate over ASGI: who is known, what rules allow, what is recorded; and that nothing goes round it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.websockets import WebSocket

from choregos.api.access.authenticators import PEER
from choregos.foundation.errors import Temporary, Unauthenticated
from choregos.resources.registry import KINDS, group_versions
from choregos.security.rbac import Attributes

RBAC = "/apis/rbac.authorization.k8s.io/v1"
CORE = "/api/v1"
OURS = "/apis/choregos.dev/v1"


def certificate(name: str, *groups: str) -> dict[str, Any]:
    return {"subject": ((("commonName", name),), *((("organizationName", group),) for group in groups))}


async def made(client: Any, path: str, body: Any) -> Any:
    reply = await client.post(path, body)
    assert reply.code == 201, reply.json
    return reply.json


async def namespace(client: Any, name: str) -> None:
    await made(client, f"{CORE}/namespaces", {"metadata": {"name": name}})


async def role(client: Any, name: str, *rules: dict[str, Any], place: str = "namespaces/default/roles") -> None:
    await made(client, f"{RBAC}/{place}", {"metadata": {"name": name}, "rules": list(rules)})


async def bind(client: Any, role_name: str, user: str, *, place: str = "default", kind: str = "Role") -> None:
    path = f"{RBAC}/namespaces/{place}/rolebindings" if place else f"{RBAC}/clusterrolebindings"
    body = {
        "metadata": {"name": f"{role_name}-{user}"},
        "subjects": [{"kind": "User", "name": user}],
        "roleRef": {"kind": kind, "name": role_name},
    }
    await made(client, path, body)


async def token_of(client: Any, name: str, place: str = "default", **spec: Any) -> str:
    path = f"{CORE}/namespaces/{place}/serviceaccounts/{name}/token"
    return str((await made(client, path, {"spec": spec}))["status"]["token"])


def rule(verbs: str, resources: str, group: str = "choregos.dev", **more: Any) -> dict[str, Any]:
    return {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split(), **more}


def everything() -> Iterator[tuple[str, str]]:
    """Every method on every path that a kind is served under, its subresources included."""
    for kind in KINDS:
        for group, version in group_versions(kind):
            base = f"/apis/{group}/{version}" if group else f"/api/{version}"
            scopes = ("", "/namespaces/default") if kind.namespaced else ("",)
            for scope in scopes:
                collection = f"{base}{scope}/{kind.plural}"
                below = [f"{collection}/x", *(f"{collection}/x/{name}" for name in sorted(kind.subresource_names))]
                for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
                    for path in (collection, *below):
                        yield method, path
                yield "GET", f"{collection}?watch=true"


ABOUT_ONESELF = ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews")


async def test_whoever_has_no_role_gets_nothing_but_discovery_and_answers_about_himself(world: Any) -> None:
    nobody = world.client.as_(certificate("nobody"))
    asked = 0
    for method, asked_path in everything():
        path, _, query = asked_path.partition("?")
        reply = await nobody.request(method, path, {}, **({"watch": "true"} if query else {}))
        if method == "POST" and set(ABOUT_ONESELF) & set(path.split("/")):
            assert reply.code in (201, 405, 422), path
            continue
        assert reply.code == 403, (method, path)
        asked += 1
    refused = [event for event in world.audit.events if event["user"].get("username") == "nobody"]
    assert len(refused) == asked > 200
    assert all(event["responseStatus"]["code"] == 403 for event in refused)
    for path in ("/api", "/apis", "/version", "/healthz", "/readyz", "/openapi/v3", "/openapi/v2", OURS):
        assert (await nobody.get(path)).code == 200, path
    for method, path in (("GET", "/"), ("GET", "/metrics"), ("POST", "/apis"), ("PUT", "/healthz")):
        assert (await nobody.request(method, path)).code == 403, path


async def test_whoever_is_not_known_gets_nothing_at_all(world: Any) -> None:
    stranger = world.client.as_(None)
    names = ("", "api", "apis", "version", "healthz", "livez", "readyz", "openapi/v2", "openapi/v3", "nowhere")
    paths = [f"/{name}" for name in names]
    for method, path in [*(("GET", path) for path in paths), *everything()]:
        reply = await stranger.request(method, path.partition("?")[0], {})
        assert (reply.code, reply.json["reason"]) == (401, "Unauthorized"), (method, path)
    last = world.audit.events[-1]
    assert (last["user"], last["responseStatus"]["code"]) == ({}, 401)
    assert last["annotations"]["authorization.k8s.io/decision"] == "forbid"


async def test_a_role_holds_in_its_namespace_and_a_cluster_role_everywhere(client: Any) -> None:
    await namespace(client, "other")
    await role(client, "reads", rule("get list", "agentsets"))
    await bind(client, "reads", "eve")
    eve = client.as_(certificate("eve"))
    sets = "agentsets"
    assert (await eve.get(f"{OURS}/namespaces/default/{sets}")).code == 200
    assert (await eve.get(f"{OURS}/namespaces/default/{sets}", watch="true")).code == 403
    assert (await eve.get(f"{OURS}/namespaces/other/{sets}")).code == 403
    assert (await eve.get(f"{OURS}/{sets}")).code == 403
    await role(client, "reads", rule("get list", "agentsets agentnodes"), place="clusterroles")
    await bind(client, "reads", "adam", place="other", kind="ClusterRole")
    adam = client.as_(certificate("adam"))
    assert (await adam.get(f"{OURS}/namespaces/other/{sets}")).code == 200
    assert (await adam.get(f"{OURS}/agentnodes")).code == 403
    await bind(client, "reads", "adam", place="", kind="ClusterRole")
    for path in (f"{OURS}/namespaces/default/{sets}", f"{OURS}/{sets}", f"{OURS}/agentnodes"):
        assert (await adam.get(path)).code == 200


async def test_what_is_taken_away_is_gone_with_the_next_request(client: Any) -> None:
    await role(client, "reads", rule("list", "agentsets"))
    await bind(client, "reads", "eve")
    eve, path = client.as_(certificate("eve")), f"{OURS}/namespaces/default/agentsets"
    assert (await eve.get(path)).code == 200
    await client.patch(f"{RBAC}/namespaces/default/roles/reads", {"rules": [rule("get", "agentsets")]})
    assert (await eve.get(path)).code == 403
    await client.patch(f"{RBAC}/namespaces/default/roles/reads", {"rules": [rule("list", "*")]})
    assert (await eve.get(path)).code == 200
    await client.delete(f"{RBAC}/namespaces/default/rolebindings/reads-eve")
    assert (await eve.get(path)).code == 403


async def test_names_narrow_lists_and_watches_too(client: Any) -> None:
    await role(client, "one", rule("get list watch", "configmaps", "", resourceNames=["mine"]))
    await bind(client, "one", "eve")
    maps, eve = f"{CORE}/namespaces/default/configmaps", client.as_(certificate("eve"))
    for name in ("mine", "other"):
        await made(client, maps, {"metadata": {"name": name}, "data": {"a": name}})
    assert (await eve.get(f"{maps}/mine")).code == 200
    assert (await eve.get(f"{maps}/other")).code == 403
    assert (await eve.get(maps)).code == 403
    listed = await eve.get(maps, fieldSelector="metadata.name=mine")
    assert [item["metadata"]["name"] for item in listed.json["items"]] == ["mine"]
    for selector in ("metadata.name=other", "metadata.name!=mine", "metadata.namespace=default", "metadata.name="):
        assert (await eve.get(maps, fieldSelector=selector)).code == 403, selector
    both = await eve.get(maps, fieldSelector="metadata.name=mine,metadata.name=other")
    assert both.json["items"] == []


async def test_a_rule_about_either_place_of_a_cluster_is_about_both(client: Any) -> None:
    for user, group in (("eve", ""), ("adam", "choregos.dev")):
        await role(client, f"reads-{user}", rule("list", "agentclusters", group))
        await bind(client, f"reads-{user}", user)
        for base, name in ((CORE, "v1agentclusters"), (CORE, "agentclusters"), (OURS, "agentclusters")):
            assert (await client.as_(certificate(user)).get(f"{base}/namespaces/default/{name}")).code == 200


async def test_what_is_granted_inside_of_a_namespace_may_be_about_itself(client: Any) -> None:
    await bind(client, "view", "eve", kind="ClusterRole")
    await namespace(client, "other")
    eve = client.as_(certificate("eve"))
    assert (await eve.get(f"{CORE}/namespaces/default")).code == 200
    assert (await eve.get(f"{CORE}/namespaces/other")).code == 403
    assert (await eve.get(f"{CORE}/namespaces")).code == 403


async def test_a_token_is_the_account(world: Any, client: Any) -> None:
    await made(client, f"{CORE}/namespaces/default/serviceaccounts", {"metadata": {"name": "bot"}})
    token = await token_of(client, "bot")
    bot = client.as_(None).with_headers(authorization=f"Bearer {token}")
    me = (await made(bot, "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}))["status"]["userInfo"]
    assert me["username"] == "system:serviceaccount:default:bot"
    assert me["groups"] == ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]
    assert (await bot.get(f"{CORE}/namespaces/default/secrets")).code == 403
    await made(
        client,
        f"{RBAC}/namespaces/default/rolebindings",
        {
            "metadata": {"name": "bots"},
            "subjects": [{"kind": "ServiceAccount", "name": "bot"}],
            "roleRef": {"kind": "ClusterRole", "name": "edit"},
        },
    )
    assert (await bot.get(f"{CORE}/namespaces/default/secrets")).code == 200
    assert (await bot.get(f"{CORE}/namespaces/other/secrets")).code == 403
    assert token not in json.dumps(list(world.audit.events))
    # A certificate is looked at first, as in Kubernetes.
    both = client.as_(certificate("eve")).with_headers(authorization=f"Bearer {token}")
    asked = await made(both, "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
    assert asked["status"]["userInfo"]["username"] == "eve"


async def test_a_token_ends_with_what_it_is_bound_to(client: Any) -> None:
    accounts, secrets = (f"{CORE}/namespaces/default/{each}" for each in ("serviceaccounts", "secrets"))
    await made(client, accounts, {"metadata": {"name": "bot"}})
    await made(client, secrets, {"metadata": {"name": "s"}})
    plain, bound = (
        await token_of(client, "bot"),
        await token_of(client, "bot", boundObjectRef={"kind": "Secret", "apiVersion": "v1", "name": "s"}),
    )

    async def code(token: str) -> int:
        return int((await client.as_(None).with_headers(authorization=f"Bearer {token}").get("/version")).code)

    assert (await code(plain), await code(bound)) == (200, 200)
    await client.delete(f"{secrets}/s")
    await made(client, secrets, {"metadata": {"name": "s"}})
    assert (await code(plain), await code(bound)) == (200, 401)
    await client.patch(f"{accounts}/bot", {"metadata": {"finalizers": ["example.org/hold"]}})
    await client.delete(f"{accounts}/bot")
    assert await code(plain) == 401
    await client.patch(f"{accounts}/bot", {"metadata": {"finalizers": None}})
    await made(client, accounts, {"metadata": {"name": "bot"}})
    assert (await code(plain), await code(await token_of(client, "bot"))) == (401, 200)


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"expirationSeconds": 599}, 422),
        ({"expirationSeconds": 2**33}, 422),
        ({"audiences": "x"}, 422),
        ({"boundObjectRef": {"kind": "Pod", "name": "x"}}, 422),
        ({"boundObjectRef": {"kind": "Secret", "name": "x"}}, 404),
    ],
)
async def test_requests_for_tokens_that_are_wrong_are_refused(client: Any, spec: Any, code: int) -> None:
    await made(client, f"{CORE}/namespaces/default/serviceaccounts", {"metadata": {"name": "bot"}})
    path = f"{CORE}/namespaces/default/serviceaccounts/bot/token"
    assert (await client.post(path, {"spec": spec})).code == code


async def test_a_long_life_is_cut_short_with_a_warning(client: Any) -> None:
    await made(client, f"{CORE}/namespaces/default/serviceaccounts", {"metadata": {"name": "bot"}})
    path = f"{CORE}/namespaces/default/serviceaccounts/bot/token"
    reply = await client.post(path, {"spec": {"expirationSeconds": 10**6}})
    assert reply.json["spec"]["expirationSeconds"] == 86_400
    assert "shortened to 86400 seconds" in reply.header("warning")[0]
    assert (await client.post(path.replace("bot", "nobody"), {})).code == 404
    assert (await client.post(path, {}, dryRun="All")).json["status"]["token"] == ""


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Bearer x", "Basic eDp5", "bearer a.b.c", "x"])
async def test_credentials_that_are_none_are_refused(client: Any, header: str) -> None:
    stranger = client.as_(None).with_headers(authorization=header)
    assert (await stranger.get("/version")).code == 401


async def test_acting_as_somebody_takes_the_right_to_each_part(world: Any, client: Any) -> None:
    whoami = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    await role(client, "acts", rule("impersonate", "users", "", resourceNames=["adam"]), place="clusterroles")
    await bind(client, "acts", "eve", place="", kind="ClusterRole")
    eve = client.as_(certificate("eve"))
    as_adam = {"impersonate-user": "adam"}
    acted = (await made(eve.with_headers(**as_adam), whoami, {}))["status"]["userInfo"]
    assert acted == {"username": "adam", "groups": ["system:authenticated"]}
    begun = next(event for event in world.audit.events if event.get("impersonatedUser"))
    assert (begun["user"]["username"], begun["impersonatedUser"]["username"]) == ("eve", "adam")
    more = (
        {"impersonate-user": "admin"},
        {**as_adam, "impersonate-group": "system:masters"},
        {**as_adam, "impersonate-uid": "1"},
        {**as_adam, "impersonate-extra-scopes": "all"},
        {"impersonate-user": "system:serviceaccount:default:bot"},
    )
    for headers in more:
        assert (await eve.with_headers(**headers).post(whoami, {})).code == 403, headers
        assert (await client.with_headers(**headers).post(whoami, {})).code == 201, headers
    assert (await eve.with_headers(**{"impersonate-group": "x"}).post(whoami, {})).code == 400
    # As whom one acts, one may no more than he.
    assert (await client.with_headers(**as_adam).get(f"{OURS}/agents")).code == 403
    account = client.with_headers(**{"impersonate-user": "system:serviceaccount:default:bot"})
    groups = (await made(account, whoami, {}))["status"]["userInfo"]["groups"]
    assert groups == ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]


async def test_reviews_answer_as_the_gate_decides(client: Any) -> None:
    await bind(client, "edit", "eve", kind="ClusterRole")
    asked = {"namespace": "default", "verb": "create", "group": "choregos.dev", "resource": "agentsets"}
    group = "/apis/authorization.k8s.io/v1"
    eve = client.as_(certificate("eve"))
    own = await made(eve, f"{group}/selfsubjectaccessreviews", {"spec": {"resourceAttributes": asked}})
    assert own["status"]["allowed"] is True
    assert 'RoleBinding "edit-eve/default" of ClusterRole "edit" to User "eve"' in own["status"]["reason"]
    for user, allowed in (("eve", True), ("adam", False)):
        about = {"spec": {"resourceAttributes": asked, "user": user}}
        assert (await made(client, f"{group}/subjectaccessreviews", about))["status"]["allowed"] is allowed
        local = {"spec": {"resourceAttributes": {**asked, "namespace": ""}, "user": user}}
        path = f"{group}/namespaces/default/localsubjectaccessreviews"
        assert (await made(client, path, local))["status"]["allowed"] is allowed
    elsewhere = {"spec": {"resourceAttributes": asked, "user": "eve"}}
    assert (await client.post(f"{group}/namespaces/other/localsubjectaccessreviews", elsewhere)).code == 422
    for resource in ("agentclusters", "v1agentclusters"):
        old_name = {"namespace": "default", "verb": "get", "resource": resource}
        body = {"spec": {"resourceAttributes": old_name}}
        assert (await made(eve, f"{group}/selfsubjectaccessreviews", body))["status"]["allowed"] is True
    path_question = {"spec": {"nonResourceAttributes": {"path": "/healthz", "verb": "get"}}}
    assert (await made(eve, f"{group}/selfsubjectaccessreviews", path_question))["status"]["allowed"] is True
    rules = await made(eve, f"{group}/selfsubjectrulesreviews", {"spec": {"namespace": "default"}})
    assert any("agentsets" in each["resources"] for each in rules["status"]["resourceRules"])
    assert rules["status"]["incomplete"] is False
    for wrong in ({}, {"resourceAttributes": asked, "nonResourceAttributes": {"path": "/"}}):
        assert (await eve.post(f"{group}/selfsubjectaccessreviews", {"spec": wrong})).code == 422


async def test_a_token_review_tells_whose_a_token_is(client: Any) -> None:
    await made(client, f"{CORE}/namespaces/default/serviceaccounts", {"metadata": {"name": "bot"}})
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    here, there = await token_of(client, "bot"), await token_of(client, "bot", audiences=["there"])
    reviewed = (await made(client, path, {"spec": {"token": here}}))["status"]
    assert (reviewed["authenticated"], reviewed["user"]["username"]) == (True, "system:serviceaccount:default:bot")
    assert reviewed["audiences"] == ["https://choregos"]
    assert (await made(client, path, {"spec": {"token": there}}))["status"]["authenticated"] is False
    asked = {"spec": {"token": there, "audiences": ["there", "elsewhere"]}}
    assert (await made(client, path, asked))["status"]["audiences"] == ["there"]
    answered = await client.post(path, {"spec": {"token": "nonsense"}})
    assert answered.json["status"]["error"] == "the token is not one of this server"


async def test_nobody_grants_what_he_does_not_hold(client: Any) -> None:
    await bind(client, "admin", "eve", kind="ClusterRole")
    await role(client, "strong", rule("*", "*", "*"))
    eve = client.as_(certificate("eve"))
    roles, bindings = (f"{RBAC}/namespaces/default/{each}" for each in ("roles", "rolebindings"))
    type_ = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role"}
    held = {**type_, "metadata": {"name": "held"}, "rules": [rule("get", "agentsets")]}
    await made(eve, roles, held)
    more = {**held, "rules": [rule("get", "agentsets"), rule("get", "agentnodes")]}
    for refused in (
        await eve.post(roles, {**more, "metadata": {"name": "more"}}),
        await eve.put(f"{roles}/held", more),
        await eve.patch(f"{roles}/held", {"rules": more["rules"]}),
        await eve.patch(
            f"{roles}/held", [{"op": "replace", "path": "/rules", "value": more["rules"]}], "json-patch+json"
        ),
        await eve.patch(f"{roles}/more", {**more, "metadata": {"name": "more"}}, "apply-patch+yaml", fieldManager="e"),
        await eve.patch(f"{roles}/held", more, "apply-patch+yaml", fieldManager="e", force="true"),
    ):
        assert (refused.code, refused.json["reason"]) == (403, "Forbidden")
        assert '"resources":["agentnodes"]' in refused.json["message"]
    # A write that grants nothing new is not asked about, even of a role one could not have made.
    assert (await eve.patch(f"{roles}/strong", {"metadata": {"labels": {"a": "b"}}})).code == 200
    binding = {"metadata": {"name": "b"}, "subjects": [{"kind": "User", "name": "eve"}]}
    for reference, code in (
        ({"kind": "Role", "name": "strong"}, 403),
        ({"kind": "ClusterRole", "name": "cluster-admin"}, 403),
        ({"kind": "Role", "name": "nowhere"}, 404),
        ({"kind": "Role", "name": "held"}, 201),
    ):
        assert (await eve.post(bindings, {**binding, "roleRef": reference})).code == code, reference
    await bind(client, "strong", "adam")
    subjects = [{"kind": "User", "name": "eve"}]
    assert (await eve.patch(f"{bindings}/strong-adam", {"subjects": subjects})).code == 403
    assert (await eve.patch(f"{bindings}/strong-adam", {"metadata": {"labels": {"a": "b"}}})).code == 200
    await role(client, "may", rule("bind escalate", "roles", "rbac.authorization.k8s.io"))
    await bind(client, "may", "eve")
    assert (await eve.patch(f"{bindings}/strong-adam", {"subjects": subjects})).code == 200
    assert (await eve.put(f"{roles}/held", more)).code == 200


async def test_a_role_that_is_made_of_others_takes_the_right_to_everything(client: Any) -> None:
    await role(client, "writes", rule("*", "clusterroles", "rbac.authorization.k8s.io"), place="clusterroles")
    body = {"metadata": {"name": "sum"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}
    await role(client, "almost", rule("create", "clusterroles", "rbac.authorization.k8s.io"), place="clusterroles")
    for user, code in (("almost", 403), ("writes", 201)):
        await bind(client, user, user, place="", kind="ClusterRole")
        assert (await client.as_(certificate(user)).post(f"{RBAC}/clusterroles", body)).code == code


async def test_what_is_privileged_is_recorded_before_and_after(world: Any, client: Any) -> None:
    await made(client, f"{CORE}/namespaces/default/serviceaccounts", {"metadata": {"name": "bot"}})
    secret = {"metadata": {"name": "key"}, "stringData": {"password": "swordfish"}}
    secrets = f"{CORE}/namespaces/default/secrets"
    actions = [
        ("POST", secrets, secret, "create", "secrets"),
        ("GET", f"{secrets}/key", None, "get", "secrets"),
        ("GET", secrets, None, "list", "secrets"),
        ("DELETE", f"{secrets}/key", None, "delete", "secrets"),
        ("POST", f"{CORE}/namespaces/default/serviceaccounts/bot/token", {}, "create", "serviceaccounts"),
        ("POST", f"{RBAC}/namespaces/default/roles", {"metadata": {"name": "r"}}, "create", "roles"),
        ("DELETE", f"{RBAC}/namespaces/default/roles/r", None, "delete", "roles"),
    ]
    for method, path, body, verb, resource in actions:
        world.audit.events.clear()
        reply = await client.request(method, path, body)
        before, after = world.audit.events
        assert (before["stage"], after["stage"]) == ("RequestReceived", "ResponseComplete")
        assert (before["auditID"], after["responseStatus"]["code"]) == (after["auditID"], reply.code)
        assert (after["verb"], after["objectRef"]["resource"], after["user"]["username"]) == (verb, resource, "admin")
        assert after["annotations"]["authorization.k8s.io/decision"] == "allow"
        shown = json.dumps([before, after])
        assert "swordfish" not in shown
        assert base64.b64encode(b"swordfish").decode() not in shown
    world.audit.events.clear()
    await client.get(f"{RBAC}/clusterroles")
    await client.get(f"{OURS}/agents")
    assert not world.audit.events
    # A secret that is wrong is told to who wrote it, and to nobody else.
    wrong = {"metadata": {"name": "key"}, "data": {"password": 12345678}}
    assert (await client.post(secrets, wrong)).code == 422
    assert "12345678" not in json.dumps(list(world.audit.events))


async def test_what_cannot_be_recorded_is_not_done(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(event: Any) -> None:
        raise Temporary("the disk is full")

    monkeypatch.setattr(world.audit, "write", full)
    secrets = f"{CORE}/namespaces/default/secrets"
    assert (await world.client.post(secrets, {"metadata": {"name": "s"}})).code == 503
    assert world.context.resources.list("secrets").items == []
    # A refusal stands all the same, and what is not privileged goes on.
    assert (await world.client.as_(certificate("eve")).get(secrets)).code == 403
    assert (await world.client.get(f"{OURS}/agents")).code == 200


async def test_what_another_server_has_granted_is_waited_for_before_a_refusal(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await role(world.client, "reads", rule("list", "agentsets"))
    asked: list[bool] = []

    async def catch_up() -> None:
        asked.append(True)
        if len(asked) == 1:
            await bind(world.client, "reads", "eve")

    monkeypatch.setattr(world.context.resources, "catch_up", catch_up)
    eve = world.client.as_(certificate("eve"))
    assert (await eve.get(f"{OURS}/namespaces/default/agentsets")).code == 200
    assert not [event for event in world.audit.events if event["user"].get("username") == "eve"]


def handshake(path: str, certificate: Any, *subprotocols: str, query: bytes = b"", **headers: str) -> WebSocket:
    async def nothing(*_: Any) -> Any:
        raise AssertionError("the gate neither reads nor writes")

    scope = {
        "type": "websocket",
        "path": path,
        "query_string": query,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "subprotocols": list(subprotocols),
        "client": ("127.0.0.1", 1),
        PEER: certificate,
    }
    return WebSocket(scope, nothing, nothing)


async def test_a_websocket_passes_the_same_gate(world: Any) -> None:
    gate, client = world.app._gate, world.client
    path = f"{CORE}/namespaces/default/pods/web-0/exec"
    await bind(client, "view", "eve", kind="ClusterRole")
    with pytest.raises(Exception, match='cannot create resource "pods/exec"'):
        await gate.admit(handshake(path, certificate("eve")))
    assert world.audit.events[-1]["objectRef"]["subresource"] == "exec"
    await role(client, "runs", rule("create", "pods/exec", ""))
    await bind(client, "runs", "eve")
    passage = await gate.admit(handshake(path, certificate("eve"), query=b"command=ls"))
    assert passage.wanted == Attributes(
        "create", version="v1", resource="pods", subresource="exec", namespace="default", name="web-0"
    )
    assert world.audit.events[-1]["stage"] == "RequestReceived"
    assert world.audit.events[-1]["requestURI"].endswith("/exec?command=ls")


async def test_a_websocket_may_show_its_token_as_a_subprotocol(world: Any) -> None:
    gate, client = world.app._gate, world.client
    await made(client, f"{CORE}/namespaces/default/serviceaccounts", {"metadata": {"name": "bot"}})
    token = base64.urlsafe_b64encode((await token_of(client, "bot")).encode()).decode().rstrip("=")
    await role(client, "runs", rule("create", "pods/exec", ""))
    await bind(client, "runs", "system:serviceaccount:default:bot")
    path, prefix = f"{CORE}/namespaces/default/pods/web-0/exec", "base64url.bearer.authorization.k8s.io."
    passage = await gate.admit(handshake(path, None, "v5.channel.k8s.io", prefix + token))
    assert passage.user.name == "system:serviceaccount:default:bot"
    for wrong in ((), (prefix + "é",), (prefix,), (prefix + token[:-8],), ("v5.channel.k8s.io",)):
        with pytest.raises(Unauthenticated):
            await gate.admit(handshake(path, None, *wrong))
