"""What clients say they take, and what they get."""

from __future__ import annotations

from typing import Any

import pytest
from api_world import GROUP, TABLE, cluster

from choregos.api.rules import codec
from choregos.api.rules.codec import Accept
from choregos.api.rules.status import Refusal

CLUSTERS = f"{GROUP}/namespaces/default/agentclusters"
PROTOBUF = "application/vnd.kubernetes.protobuf"
FORM = "application/json;as={form};v={version};g=meta.k8s.io"
V9 = FORM.format(form="Table", version="v9")


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("", Accept()),
        ("  ", Accept()),
        ("*/*", Accept()),
        ("application/*", Accept()),
        ("application/json", Accept()),
        ("Application/JSON; charset=utf-8", Accept()),
        ("application/json;stream=watch", Accept()),
        ("application/json;q=0.9, */*;q=0.1", Accept()),
        (f"{PROTOBUF},application/json", Accept()),
        (f"{PROTOBUF}, */*", Accept()),
        (f"application/cbor,{PROTOBUF};q=0.9,application/json;q=0.8", Accept()),
        ("application/json, application/yaml, application/vnd.kubernetes.protobuf", Accept()),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Accept()),
        (TABLE, Accept("Table")),
        (f"{PROTOBUF};as=Table;v=v1;g=meta.k8s.io,{TABLE}", Accept("Table")),
        (f"{V9},application/json", Accept()),
        (f"{V9},{FORM.format(form='PartialObjectMetadata', version='v1')}", Accept("PartialObjectMetadata")),
        (
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
            Accept(discovery=True),
        ),
    ],
)
def test_who_takes_something_that_is_served_gets_the_first_of_it(header: str, accepted: Accept) -> None:
    assert codec.accept(header) == accepted


REFUSED = [
    "application/xml",
    "text/*",
    PROTOBUF,
    "application/json;as=Table;v=v9",
    V9,
    ";;,=",
    f"{V9},application/cbor",
]


@pytest.mark.parametrize("header", REFUSED)
def test_who_takes_nothing_of_it_is_told_what_is_offered(header: str) -> None:
    with pytest.raises(Refusal, match=r"only the following media types are accepted: application/json$") as refused:
        codec.accept(header)
    assert (refused.value.code, refused.value.reason) == (406, "NotAcceptable")


@pytest.mark.parametrize("header", REFUSED)
async def test_it_is_told_before_anything_is_done(client: Any, header: str) -> None:
    one = f"{CLUSTERS}/support"
    reply = await client.post(CLUSTERS, cluster(), accept=header)
    assert (reply.code, reply.json["kind"], reply.json["reason"]) == (406, "Status", "NotAcceptable")
    assert (await client.get(one)).code == 404
    assert (await client.post(CLUSTERS, cluster(), accept=f"{header},application/json")).code == 201
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        assert (await client.request(method, one, cluster(), accept=header)).code == 406
    for path in (CLUSTERS, f"{one}/status", "/api", "/apis", "/apis/choregos.dev/v1"):
        assert (await client.get(path, accept=header)).code == 406, path
    async with client.stream(CLUSTERS, header, watch="true") as stream:
        assert stream.code == 406
    assert (await client.get(one)).code == 200
    assert (await client.get("/readyz", accept=header)).body == b"ok"


async def test_what_else_cannot_be_answered_is_told_before_anything_is_done_too(client: Any) -> None:
    assert (await client.post(CLUSTERS, cluster(), accept=TABLE, includeObject="Everything")).code == 400
    assert (await client.get(f"{CLUSTERS}/support")).code == 404
