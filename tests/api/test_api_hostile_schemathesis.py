"""Requests that schemathesis makes from our own OpenAPI documents, to a server on a socket, over TLS.

Whatever it asks: no answer is a fault of the server's, a refusal is a `Status` that says why, and an answer is as the
document says. Half of the requests keep to the document, half break it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

EXAMPLES_MAX = 10
"""Of each operation."""

load_all_checks()
CHECKED = CHECKS.get_by_names(
    ["not_a_server_error", "content_type_conformance", "response_schema_conformance", "status_code_conformance"]
)
GROUPS = ("apis/choregos.dev/v1", "api/v1", "apis/rbac.authorization.k8s.io/v1")


class Examiner:
    """Sends what is generated, and counts the answers.

    Attributes:
        codes: how often each HTTP status was answered.
    """

    def __init__(self, url: str, session: requests.Session, **tls: Any) -> None:
        self._url = url
        self._session = session
        self._tls = tls
        self.codes: Counter[int] = Counter()

    def examine(self, operation: Any) -> None:
        modes = [
            operation.as_strategy(generation_mode=mode) for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
        ]

        @settings(
            max_examples=EXAMPLES_MAX,
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.explicit, Phase.generate),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=st.one_of(modes), name=st.sampled_from(("x", "default", "system:discovery")), named=st.booleans())
        def send(case: Any, name: str, named: bool) -> None:
            # What is there is at places that nobody would guess.
            places = {"namespace": "default", "name": name}
            case.path_parameters = {key: places[key] for key in case.path_parameters}
            if named and isinstance(case.body, dict):
                case.body = {**case.body, "metadata": {"name": name}}
                case.body.pop("apiVersion", None)
                case.body.pop("kind", None)
            self._send(case)

        send()

    def _send(self, case: Any) -> None:
        for option in ("watch", "timeoutSeconds"):  # an answer that does not end
            case.query.pop(option, None)
        response = case.call(base_url=self._url, session=self._session, timeout=30, **self._tls)
        self.codes[response.status_code] += 1
        case.validate_response(response, checks=CHECKED)
        if response.status_code >= 400:
            refusal = response.json()
            assert (refusal["kind"], refusal["status"], refusal["code"]) == ("Status", "Failure", response.status_code)
            assert refusal["message"]


@pytest.mark.real
@pytest.mark.timeout(300)
@pytest.mark.parametrize("group", GROUPS)
async def test_the_server_answers_as_its_document_says(served: Any, client: Any, group: str, tmp_path: Path) -> None:
    document = (await client.get(f"/openapi/v3/{group}")).json
    identity = served.authority.client("admin", ["system:masters"])
    certificate, key = tmp_path / "client.crt", tmp_path / "client.key"
    certificate.write_bytes(identity.certificate_pem)
    key.write_bytes(identity.key_pem)
    for name in ("x", "y"):
        await client.post("/apis/choregos.dev/v1/agentnodes", {"metadata": {"name": name}})

    def examine() -> Counter[int]:
        with requests.Session() as session:
            authority = str(served.authority.certificate_path)
            examiner = Examiner(served.serving.url, session, cert=(str(certificate), str(key)), verify=authority)
            for operation in schemathesis.openapi.from_dict(document).get_all_operations():
                examiner.examine(operation.ok())
            return examiner.codes

    codes = await asyncio.to_thread(examine)
    assert codes[200] + codes[201] > 10, codes
    assert codes[400] + codes[422] > 10, codes
