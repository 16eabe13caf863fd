"""What programs written for Kubernetes do, with its official Python client: `with_kubernetes.py POD NODE`.

Prints one JSON object; the test judges it. KUBECONFIG says where.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from kubernetes import client, config, watch
from kubernetes.stream import stream


def main(pod: str, node: str) -> dict[str, Any]:
    config.load_kube_config()
    core = client.CoreV1Api()
    connect, where = core.connect_get_namespaced_pod_exec, (pod, "default")
    shell: dict[str, Any] = {"stderr": True, "stdout": True, "tty": False}
    said = stream(connect, *where, command=["sh", "-c", "echo out; echo err >&2"], stdin=False, **shell)
    session = stream(connect, *where, command=["sh"], stdin=True, _preload_content=False, **shell)
    session.write_stdin("echo from the shell; exit 5\n")
    session.run_forever(timeout=30)
    first = next(iter(watch.Watch().stream(core.list_namespaced_pod, "default", timeout_seconds=30)))
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod, namespace="default"))
    patched = core.patch_node(node, {"metadata": {"labels": {"seen-by": "python"}}})
    metrics = client.CustomObjectsApi().list_namespaced_custom_object(
        "metrics.k8s.io", "v1beta1", "default", "pods", label_selector="choregos.dev/cluster=seen"
    )
    return {
        "pod": core.read_namespaced_pod(*where).status.container_statuses[0].ready,
        "log": core.read_namespaced_pod_log(*where, tail_lines=1),
        "said": said,
        "shell": [session.read_stdout(), session.returncode],
        "watched": first["object"].kind,
        "evicted": core.create_namespaced_pod_eviction(*where, eviction, dry_run="All").kind,
        "node": [patched.metadata.labels["seen-by"], core.list_node().items[0].status.node_info.kubelet_version != ""],
        "measured": [item["metadata"]["name"] for item in metrics["items"]],
    }


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:3])))
