"""The same with kr8s: `with_kr8s.py POD NODE`. Prints one JSON object; the test judges it."""

from __future__ import annotations

import json
import sys
from typing import Any

import kr8s
from kr8s.objects import Node, Pod


def main(name: str, node_name: str) -> dict[str, Any]:
    pod = Pod.get(name, namespace="default")
    pod.wait("condition=Ready", timeout=30)
    done = pod.exec(["sh", "-c", "echo out"])
    node = Node.get(node_name)
    node.cordon()
    node.refresh()
    cordoned = node.unschedulable
    node.uncordon()
    node.refresh()
    return {
        "ready": pod.ready(),
        "log": list(pod.logs(tail_lines=1)),
        "exec": [done.stdout.decode(), done.returncode],
        "cordoned": [cordoned, bool(node.unschedulable)],
        "pods": sorted(each.name for each in kr8s.get("pods", namespace="default", label_selector="tier=seen")),
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:3])))
