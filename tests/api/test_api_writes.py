from __future__ import annotations

from typing import Any

CLUSTERS = "/apis/choregos.dev/v1/namespaces/default/agentclusters"


async def test_a_created_object_is_read_back_with_server_side_metadata(client: Any, manifests: Any) -> None:
    created = await client.post(CLUSTERS, manifests.cluster())
    assert created.code == 201, created.json
    metadata = created.json["metadata"]
    assert metadata["uid"]
    assert metadata["generation"] == 1
    assert metadata["finalizers"] == ["choregos.dev/agents"]
    assert created.json["status"]
    read = await client.get(f"{CLUSTERS}/support")
    assert read.json == created.json
