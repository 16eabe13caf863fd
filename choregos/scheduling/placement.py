"""Plans where requested agents go.

Requests are placed in the order given, each as far as the nodes have room; what is left over carries the reason and
the nearest fit. The result is a value: whoever applies it leaves no choice open, and the node may still refuse.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from choregos.scheduling.explanation import explain
from choregos.scheduling.filters import exclusion, room
from choregos.scheduling.scores import score
from choregos.scheduling.snapshot import Node, Request, Snapshot


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the agents of one request go.

    Attributes:
        nodes: one node name per agent that has a place, the best first; at most `request.count`.
        unplaced: how many have none.
        message: why the others have none; empty if all have one.
    """

    request: Request
    nodes: tuple[str, ...]
    unplaced: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """One placement per request, in their order."""

    placements: tuple[Placement, ...]


class _Room:
    """What is still free on each node while a plan is made. Invariant: never negative for what was placed here."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = sorted(nodes, key=lambda node: node.name)
        self.free: dict[str, dict[str, int]] = {
            node.name: {
                name: allocatable - node.allocated.get(name, 0) for name, allocatable in node.allocatable.items()
            }
            for node in self.nodes
        }

    def take(self, node: str, demand: dict[str, int], count: int) -> None:
        free = self.free[node]
        for name, asked in demand.items():
            free[name] -= asked * count


def plan(snapshot: Snapshot, requests: Sequence[Request]) -> Plan:
    """Places every request as far as possible; see the module."""
    room_left = _Room(snapshot.nodes)
    return Plan(tuple(_place(room_left, request) for request in requests))


def _place(room_left: _Room, request: Request) -> Placement:
    demand = request.needs.demand()
    alike_total = max(1, request.count + sum(request.alike.values()))
    # Entries are (score, order, step, agents that still fit); the order breaks ties by name and is unique.
    heap: list[tuple[int, int, int, int]] = []
    for order, node in enumerate(room_left.nodes):
        free = room_left.free[node.name]
        if exclusion(node, request.needs) or not (fit := room(free, demand)):
            continue
        rated = score(node, request.needs, free, demand, (request.alike.get(node.name, 0), alike_total))
        heap.append((rated.start, order, rated.step, fit))
    heapq.heapify(heap)
    orders = _draw(heap, request.count)
    names = [node.name for node in room_left.nodes]
    taken: dict[int, int] = {}
    for order in orders:
        taken[order] = taken.get(order, 0) + 1
    for order, count in taken.items():
        room_left.take(names[order], demand, count)
    unplaced = request.count - len(orders)
    message = explain(room_left.nodes, room_left.free, request.needs) if unplaced else ""
    return Placement(request, tuple(names[order] for order in orders), unplaced, message)


def _draw(heap: list[tuple[int, int, int, int]], count: int) -> list[int]:
    """The best `count` places, by node order; fewer if the nodes are full before that."""
    chosen: list[int] = []
    while heap and len(chosen) < count:
        rated, order, step, fit = heap[0]
        chosen.append(order)
        if fit > 1:
            heapq.heapreplace(heap, (rated + step, order, step, fit - 1))
        else:
            heapq.heappop(heap)
    return chosen
