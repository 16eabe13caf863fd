"""Bodies that are meant to hurt: refused with a word, and before much work has been done for them.

Work is counted, not timed: what reaches validation, how many nodes a reader makes, how much of a body is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from choregos.api.rules import codec
from choregos.foundation import bounded_yaml
from choregos.resources import validation

CLUSTERS = "/apis/choregos.dev/v1/namespaces/default/agentclusters"
JSON, YAML = "application/json", "application/yaml"
MIB = 1024 * 1024
NAMED = b'"metadata":{"name":"x"}'


def laughs(levels: int) -> bytes:
    lines = [b"a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]".encode() for n in range(1, levels)]
    return b"\n".join(lines)


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    return opening * depth + b"1" + closing * depth


def keys(count: int, value: bytes = b"1") -> bytes:
    return b"{" + b",".join(b'"k%d":%s' % (number, value) for number in range(count)) + b"}"


def settings(value: bytes) -> bytes:
    return b'{%s,"spec":{"agents":[{"name":"a","settings":{"a":%s}}]}}' % (NAMED, value)


UNREADABLE = {
    "billion laughs": (laughs(30), YAML, 400, "aliases up to here stand for more than"),
    "an alias of itself": (b"a: &a [*a]", YAML, 400, "stands within what it stands for"),
    "deep json": (nested(10_000), JSON, 400, "recursion"),
    "deep json objects": (nested(10_000, b'{"a":', b"}"), JSON, 400, "recursion"),
    "deep yaml": (nested(10_000), YAML, 400, "nested deeper than 100 levels"),
    "deep yaml objects": (b"{a: " * 500_000, YAML, 400, "nested deeper than 100 levels"),
    "deep yaml blocks": (b"- " * 1_000_000, YAML, 400, "nested deeper than 100 levels"),
    "NaN": (settings(b"NaN"), JSON, 400, "not valid JSON"),
    "Infinity": (settings(b"-Infinity"), JSON, 400, "not valid JSON"),
    "a float beyond all": (settings(b"1e999"), JSON, 400, "out of range"),
    "an integer of 2.9 MB": (settings(b"9" * 2_900_000), JSON, 400, "out of range"),
    "no UTF-8": (b'{"metadata":{"name":"\xff"}}', JSON, 400, "not valid JSON"),
    "no UTF-8 in yaml": (b'metadata: {name: "\xff"}', YAML, 400, "not valid YAML"),
    "half of a surrogate pair": (settings(rb'"\ud800"'), JSON, 400, "surrogate"),
    "half of a surrogate pair as a key": (settings(rb'{"\udfff":1}'), JSON, 400, "surrogate"),
    "half of a surrogate pair in yaml": (rb'a: "\uD800"', YAML, 400, "invalid Unicode"),
    "a NUL": (b'{"metadata":{"name":"x\x00"}}', JSON, 400, "invalid character"),
    "a NUL in yaml": (b"a: \x00", YAML, 400, "control characters"),
    "a key twice in yaml": (b"metadata: {name: x}\nmetadata: {name: y}", YAML, 400, "'metadata' is given twice"),
    "a list as a key": (b"? [a]\n: 1", YAML, 400, "unhashable key"),
    "two documents": (b"---\n" * 500_000, YAML, 400, "single document"),
    "objects of Python": (b"a: !!python/object/apply:os.system [id]", YAML, 400, "could not determine a constructor"),
    "sets": (b"a: !!set {b}", YAML, 400, "could not determine a constructor"),
    "a tag of 2 MB": (b"a: !" + b"x" * 2_000_000 + b" b", YAML, 400, "could not determine a constructor"),
    "half a million labels": (b'{"metadata":{"name":"x","labels":%s}}' % keys(200_000), JSON, 413, "100000 values"),
    "a million numbers": (b'{%s,"spec":{"agents":[%s1]}}' % (NAMED, b"1," * 1_300_000), JSON, 413, "100000 values"),
    "a million numbers in yaml": (b"[" + b"1," * 1_300_000 + b"]", YAML, 400, "more than 100000 values"),
    "a million anchors": (b"[" + b"&a a," * 400_000 + b"]", YAML, 400, "more than 100000 values"),
    "json as yaml": (settings(b"[" + b"1," * 1_300_000 + b"1]"), YAML, 413, "100000 values"),
}


@pytest.fixture
def unread(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused by its form is not looked at any further."""

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("it was validated")

    monkeypatch.setattr(validation, "validate", fail)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_body_that_cannot_be_read_is_refused_with_a_word(client: Any, name: str, method: str) -> None:
    body, content, code, word = UNREADABLE[name]
    path = CLUSTERS
    if method != "POST":
        path = f"{CLUSTERS}/x"
    if method == "PATCH":
        content = "application/apply-patch+yaml" if content == YAML else "application/merge-patch+json"
    query = {"fieldManager": "m"} if method == "PATCH" else {}
    refused = await client.request(method, path, body, content=content, **query)
    assert (refused.code, refused.json["kind"], refused.json["status"]) == (code, "Status", "Failure")
    assert word in refused.json["message"]
    assert len(refused.body) < 2_000


@pytest.mark.parametrize("body", [laughs(30), nested(10_000), b"- " * 1_000_000, b"[" + b"a," * 1_300_000 + b"]"])
async def test_a_reader_of_yaml_makes_few_nodes(client: Any, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    made = 0
    compose = bounded_yaml.BoundedLoader.compose_node

    def counted(self: Any, parent: Any, index: Any) -> Any:
        nonlocal made
        made += 1
        return compose(self, parent, index)

    monkeypatch.setattr(bounded_yaml.BoundedLoader, "compose_node", counted)
    assert (await client.post(CLUSTERS, body, content=YAML)).code == 400
    assert made <= codec.VALUES_MAX + 1


class Upload:
    """A body that comes in chunks of 1 MiB, and counts those that were taken."""

    def __init__(self, chunks: int) -> None:
        self._chunks = chunks
        self.taken = 0

    async def receive(self) -> dict[str, Any]:
        self.taken += 1
        return {"type": "http.request", "body": b" " * MIB, "more_body": self.taken < self._chunks}


async def answered(client: Any, upload: Upload, headers: dict[str, str]) -> int:
    codes: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            codes.append(message["status"])

    scope = client._scope("POST", CLUSTERS, {}, {"content-type": JSON, **headers})
    await client._app(scope, upload.receive, send)
    return codes[0]


@pytest.mark.parametrize(
    ("headers", "taken"),
    [({"content-length": str(100 * MIB)}, 0), ({}, 4), ({"content-length": "5"}, 4), ({"content-length": "²"}, 4)],
)
async def test_of_100_mb_no_more_is_read_than_the_limit(client: Any, headers: dict[str, str], taken: int) -> None:
    upload = Upload(100)
    assert await answered(client, upload, headers) == 413
    assert upload.taken == taken


INVALID = {
    "an integer of 30 digits": (b'{%s,"spec":{"agents":[{"name":"a","replicas":%s}]}}' % (NAMED, b"9" * 30), JSON),
    "a free integer of 30 digits": (settings(b"9" * 30), JSON),
    "sexagesimal": (b"metadata: {name: x}\nspec: {agents: [{name: a, replicas: 1%s}]}" % (b":1" * 100_000), YAML),
    "sexagesimal float": (
        b"metadata: {name: x}\nspec: {agents: [{name: a, replicas: 1%s.5}]}" % (b":1" * 5_000),
        YAML,
    ),
    "infinite seconds": (b"metadata: {name: x}\nspec: {agents: [{name: a, startTimeoutSeconds: .inf}]}", YAML),
    "a hundred thousand hexadecimal digits": (
        b"metadata: {name: x}\nspec: {agents: [{name: a, replicas: 0x%s}]}" % (b"f" * 100_000),
        YAML,
    ),
    "free nesting": (settings(nested(200)), JSON),
    "a name with a NUL": (rb'{"metadata":{"name":"x\u0000"},"spec":{"agents":[]}}', JSON),
    "an environment with a NUL": (
        rb'{"metadata":{"name":"x"},"spec":{"agents":[{"name":"a","env":{"A":"\u0000"}}]}}',
        JSON,
    ),
    "many faults": (b'{%s,"spec":{"agents":[{"name":"a","env":%s}]}}' % (NAMED, keys(90_000)), JSON),
    "one thing many times": (
        b'{"metadata":{"name":"x","finalizers":[%s"a/b"]},"spec":{"agents":[]}}' % (b'"a/b",' * 90_000),
        JSON,
    ),
    "a long name": (b'{"metadata":{"name":"%s"},"spec":{"agents":[]}}' % (b"x" * 1_000_000), JSON),
}


@pytest.mark.parametrize("name", INVALID)
async def test_a_body_that_is_wrong_is_refused_with_few_words(client: Any, name: str) -> None:
    body, content = INVALID[name]
    refused = await client.post(CLUSTERS, body, content=content)
    assert (refused.code, refused.json["reason"]) == (422, "Invalid")
    assert len(refused.json["details"]["causes"]) <= 1_001
    assert len(refused.body) < 2 * len(body) + 300_000


async def test_unknown_fields_that_are_nested_too_deep_to_look_at_are_refused(client: Any) -> None:
    body = b'{%s,"spec":{"agents":[],"x":%s}}' % (NAMED, nested(900))
    refused = await client.post(CLUSTERS, body)
    assert (refused.code, refused.json["message"]) == (400, "the request is nested too deeply")


async def test_a_text_with_a_nul_is_kept_where_any_text_is(client: Any) -> None:
    manifest = {"metadata": {"name": "x", "annotations": {"a": "b\0c"}}, "spec": {"agents": []}}
    assert (await client.post(CLUSTERS, manifest)).code == 201
    found = (await client.get(f"{CLUSTERS}/x")).json
    assert found["metadata"]["annotations"] == {"a": "b\0c"}


TWICE = b'{%s,"spec":{"agents":[],"agents":[{"name":"a","env":{"A/b":"1","A/b":"2"},"env":{"A":"1","A":"2"}}]}}' % NAMED
SAID = ("spec.agents", "spec.agents[0].env", "spec.agents[0].env.A")


@pytest.mark.parametrize(
    "send",
    [
        lambda client, **query: client.post(CLUSTERS, TWICE, **query),
        lambda client, **query: client.put(f"{CLUSTERS}/x", TWICE, **query),
        lambda client, **query: client.patch(f"{CLUSTERS}/x", TWICE, **query),
        lambda client, **query: client.patch(f"{CLUSTERS}/x", TWICE, "strategic-merge-patch+json", **query),
    ],
)
async def test_keys_that_are_given_twice_are_told(client: Any, send: Callable[..., Any]) -> None:
    await client.post(CLUSTERS, {"metadata": {"name": "x"}, "spec": {"agents": []}})
    found = [f'duplicate field "{path}"' for path in SAID]
    strict = await send(client, fieldValidation="Strict", dryRun="All")
    assert strict.code == 400, strict.json
    assert strict.json["message"].endswith(f"strict decoding error: {', '.join(found)}")
    if (warned := await send(client)).code != 409:
        quoted = [f'299 - "{text}"'.replace('field "', 'field \\"')[:-2] + '\\""' for text in found]
        assert warned.header("warning") == quoted
    if (ignored := await send(client, fieldValidation="Ignore")).code != 409:
        assert ignored.header("warning") == []


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        (b'{"a":1,"b":[{"c":1}]}', ()),
        (b' {"a" : 1.0, "b" : "\\u0041 , \\" " } ', ()),
        (b'{"a":1e5,"b":"\xc3\xa9","c":-0.0,"d":1E-2}', ()),
        (b'{"a":1,"a":1}', ("a",)),
        (b'[{"a":{"b":1,"b":2}},{"a":1,"a":{"c":1,"c":2}}]', ("[0].a.b", "[1].a", "[1].a.c")),
        (b'{"a\\u0062":1,"ab":2}', ("ab",)),
    ],
)
def test_which_keys_are_given_twice(body: bytes, paths: tuple[str, ...]) -> None:
    assert codec.repeated_keys(body, JSON, codec.decode(body, JSON)) == paths


async def test_a_warning_is_a_header_whatever_it_speaks_of(client: Any) -> None:
    body = {"metadata": {"name": "x"}, "spec": {"agents": [], 'a\x00\x1b\r\n\x7f\x85é"\\b': 1}}
    (warning,) = (await client.post(CLUSTERS, body)).header("warning")
    assert warning == r'299 - "unknown field \"spec[a\\x00\\x1b \\x7f \\xe9\"\\b]\""'


async def test_no_object_grows_by_patches_beyond_what_a_body_may_hold(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "VALUES_MAX", 1000)
    await client.post(CLUSTERS, settings(b"[%s]" % b",".join([b"0"] * 600)))

    async def patched(patch: bytes, content: str) -> Any:
        return await client.patch(f"{CLUSTERS}/x", patch, content)

    more = b'{"spec":{"agents":[{"name":"a","settings":{"b":[%s]}}]}}' % b",".join([b"0"] * 600)
    refused = await patched(more, "strategic-merge-patch+json")
    assert (refused.code, refused.json["message"]) == (413, "the object would have more than 1000 values")
    double = b'{"op":"copy","from":"/spec/agents/0/settings/a","path":"/spec/agents/0/settings/a/-"}'
    refused = await patched(b"[%s]" % b",".join([double] * 2), "json-patch+json")
    assert (refused.code, refused.json["reason"]) == (422, "Invalid")
    assert "copies more than 1000 values" in refused.json["message"]
    assert (await patched(b"[%s]" % double.replace(b"a/-", b"b"), "json-patch+json")).code == 413
    assert (await patched(b'{"metadata":{"labels":{"a":"b"}}}', "merge-patch+json")).code == 200
