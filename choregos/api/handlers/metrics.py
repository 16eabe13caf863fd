"""GET of PodMetrics and NodeMetrics: measured at the nodes while the client waits. Nothing of it is kept.

What was not measured, because it does not run or its node is silent, is left out of a list; silent nodes are named in
warnings, which kubectl prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from starlette.responses import Response

from choregos.api.handlers.reading import read_page
from choregos.api.projections.metrics import node_metrics, pod_metrics
from choregos.api.requests import ApiRequest, answer
from choregos.api.rules.options import list_options
from choregos.api.selection import select
from choregos.foundation.errors import NotFound
from choregos.resources.kind import Object
from choregos.store.instance import Instance


async def list_pods(call: ApiRequest) -> Response:
    instances, metadata = await _chosen(call)
    with call.streams.open(call.flow):
        measured = await call.context.nodes.usage.of_agents(instances)
    documents = (
        pod_metrics(one, measured.found[one.record.uid]) for one in instances if one.record.uid in measured.found
    )
    return _listed(call, documents, metadata, measured.silent)


async def list_nodes(call: ApiRequest) -> Response:
    nodes, metadata = await _chosen(call)
    with call.streams.open(call.flow):
        measured = await call.context.nodes.usage.of_nodes([node["metadata"]["name"] for node in nodes])
    documents = (
        node_metrics(node, measured.found[node["metadata"]["name"]])
        for node in nodes
        if node["metadata"]["name"] in measured.found
    )
    return _listed(call, documents, metadata, measured.silent)


async def get_pod(call: ApiRequest) -> Response:
    instance: Instance = call.reading().get(call.target.namespace, call.name)
    with call.streams.open(call.flow):
        measured = await call.context.nodes.usage.of_agents([instance])
    if instance.record.uid not in measured.found:
        raise NotFound(call.name)
    return _one(call, pod_metrics(instance, measured.found[instance.record.uid]))


async def get_node(call: ApiRequest) -> Response:
    node = call.reading().get("", call.name)
    with call.streams.open(call.flow):
        measured = await call.context.nodes.usage.of_nodes([call.name])
    if call.name not in measured.found:
        raise NotFound(call.name)
    return _one(call, node_metrics(node, measured.found[call.name]))


async def _chosen(call: ApiRequest) -> tuple[Sequence[Any], Object]:
    """What shall be measured, and the metadata of the list."""
    options = list_options(call.query)
    page = await read_page(call, options, select(call, options))
    return page.items, {"continue": page.token} if page.token else {}


def _listed(call: ApiRequest, documents: Iterable[Object], metadata: Object, silent: Iterable[str]) -> Response:
    listing = call.view.many(documents, metadata, call.context.clock.wall_ms())
    return answer(listing, warnings=[f"node {name} does not say what is used of it" for name in silent])


def _one(call: ApiRequest, document: Object) -> Response:
    return answer(call.view.one(document, call.context.clock.wall_ms()))
