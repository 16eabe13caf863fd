from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey, OKPKey

from choregos.foundation.errors import Permanent, Unauthenticated
from choregos.foundation.ids import SeededIds
from choregos.security.tokens import ISSUER, LIFE_S_MAX, SKEW_S, TOKEN_BYTES_MAX, Bound, Tokens
from choregos.testing import SimClock

BOT = Bound("bot", "uid-of-bot")


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture
def key() -> OKPKey:
    return OKPKey.generate_key("Ed25519")


@pytest.fixture
def tokens(key: OKPKey, clock: SimClock) -> Tokens:
    return Tokens(key, clock, SeededIds(1))


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    header, payload, signature = token.split(".")
    decoded = [json.loads(base64.urlsafe_b64decode(each + "==")) for each in (header, payload)]
    return decoded[0], decoded[1], signature


def test_a_token_says_what_those_of_kubernetes_say(tokens: Tokens, clock: SimClock) -> None:
    token, claims = tokens.issue("team", BOT, life_s=600, secret=Bound("s", "uid-of-s"))
    header, payload, _ = parts(token)
    now_s = clock.wall_ms() // 1000
    assert header["alg"] == "Ed25519"
    assert payload == {
        "iss": ISSUER,
        "sub": "system:serviceaccount:team:bot",
        "aud": [ISSUER],
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + 600,
        "jti": claims.id,
        "kubernetes.io": {
            "namespace": "team",
            "serviceaccount": {"name": "bot", "uid": "uid-of-bot"},
            "secret": {"name": "s", "uid": "uid-of-s"},
        },
    }
    assert tokens.check(token) == claims
    user = claims.user
    assert (user.name, user.uid) == ("system:serviceaccount:team:bot", "uid-of-bot")
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:team")


async def test_a_token_is_valid_in_its_time_give_or_take_the_skew(tokens: Tokens, clock: SimClock, key: OKPKey) -> None:
    token, _ = tokens.issue("team", BOT, life_s=600)
    early = SimClock(clock.wall_ms() - SKEW_S * 1000)
    assert Tokens(key, early, SeededIds(1)).check(token)
    earlier = SimClock(clock.wall_ms() - SKEW_S * 1000 - 1)
    with pytest.raises(Unauthenticated, match="not valid yet"):
        Tokens(key, earlier, SeededIds(1)).check(token)
    await clock.advance(600 + SKEW_S - 0.001)
    assert tokens.check(token)
    await clock.advance(0.001)
    with pytest.raises(Unauthenticated, match="expired"):
        tokens.check(token)


def test_no_token_lives_longer_than_the_longest(tokens: Tokens) -> None:
    _, claims = tokens.issue("team", BOT, life_s=2**32)
    assert claims.expires_s - claims.not_before_s == LIFE_S_MAX


def test_a_token_is_for_its_audiences_only(tokens: Tokens) -> None:
    token, _ = tokens.issue("team", BOT, life_s=600, audiences=["https://a.example", "https://b.example"])
    with pytest.raises(Unauthenticated, match="is not for https://choregos"):
        tokens.check(token)
    assert tokens.check(token, ["https://x.example", "https://b.example"])
    with pytest.raises(Unauthenticated):
        tokens.check(token, [])


def test_what_another_key_has_signed_is_worth_nothing(tokens: Tokens, clock: SimClock) -> None:
    other = Tokens(OKPKey.generate_key("Ed25519"), clock, SeededIds(1))
    with pytest.raises(Unauthenticated, match="not one of this server"):
        tokens.check(other.issue("team", BOT, life_s=600)[0])


def test_a_token_without_or_with_another_algorithm_is_worth_nothing(tokens: Tokens, key: OKPKey) -> None:
    header, payload, signature = parts(tokens.issue("team", BOT, life_s=600)[0])
    forged = [
        f"{part({**header, 'alg': name})}.{part(payload)}.{tail}"
        for name in ("none", "HS256", "EdDSA", "")
        for tail in ("", signature)
    ]
    public = key.public_key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    confused = jws.serialize_compact({"alg": "HS256"}, json.dumps(payload).encode(), OctKey.import_key(public))
    for token in (*forged, confused):
        with pytest.raises(Unauthenticated, match="not one of this server"):
            tokens.check(token)


def test_what_was_changed_is_worth_nothing(tokens: Tokens) -> None:
    header, payload, signature = parts(tokens.issue("team", BOT, life_s=600)[0])
    for changes in ({"sub": "system:serviceaccount:team:boss"}, {"exp": payload["exp"] + 1}, {"aud": ["x"]}):
        with pytest.raises(Unauthenticated):
            tokens.check(f"{part(header)}.{part({**payload, **changes})}.{signature}")


def test_a_signed_text_that_is_no_token_of_ours_is_worth_nothing(tokens: Tokens, key: OKPKey) -> None:
    _, payload, _ = parts(tokens.issue("team", BOT, life_s=600)[0])
    others = [
        {**payload, "iss": "https://elsewhere"},
        {**payload, "more": 1},
        {name: value for name, value in payload.items() if name != "exp"},
        {**payload, "exp": "tomorrow"},
        {**payload, "kubernetes.io": {"namespace": "team"}},
        {**payload, "kubernetes.io": "team"},
        {**payload, "sub": "system:serviceaccount:team:boss"},
        [],
        "text",
    ]
    for other in others:
        token = jws.serialize_compact({"alg": "Ed25519"}, json.dumps(other).encode(), key, algorithms=["Ed25519"])
        with pytest.raises(Unauthenticated, match="not one of this server"):
            tokens.check(token)


def test_what_is_too_long_is_not_looked_at(tokens: Tokens) -> None:
    with pytest.raises(Unauthenticated, match="too long"):
        tokens.check("x" * (TOKEN_BYTES_MAX + 1))


SAMPLE = Tokens(OKPKey.generate_key("Ed25519"), SimClock(), SeededIds(1))
VALID = SAMPLE.issue("team", BOT, life_s=600)[0]


@given(st.text(max_size=200) | st.tuples(st.integers(0, len(VALID) - 1), st.characters()))
def test_no_text_makes_a_check_fail_in_another_way(change: Any) -> None:
    token = change if isinstance(change, str) else VALID[: change[0]] + change[1] + VALID[change[0] + 1 :]
    # The last character of a part has bits that base64 ignores: such a text says the same.
    if token[:-1] != VALID[:-1]:
        with pytest.raises(Unauthenticated):
            SAMPLE.check(token)


def test_the_key_is_made_once_and_for_its_owner_only(tmp_path: Path, clock: SimClock) -> None:
    first = Tokens.open(tmp_path, clock, SeededIds(1))
    path = tmp_path / "tokens.key"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    again = Tokens.open(tmp_path, clock, SeededIds(2))
    assert path.stat().st_mode & 0o777 == 0o600
    assert again.check(first.issue("team", BOT, life_s=600)[0])


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_not_replaced_silently(tmp_path: Path, clock: SimClock, content: bytes) -> None:
    (tmp_path / "tokens.key").write_bytes(content)
    with pytest.raises(Permanent, match="Restore it from a backup; or remove the file"):
        Tokens.open(tmp_path, clock, SeededIds(1))


def test_a_key_of_another_kind_is_refused(tmp_path: Path, clock: SimClock) -> None:
    (tmp_path / "tokens.key").write_bytes(OKPKey.generate_key("Ed448").as_pem(private=True))
    with pytest.raises(Permanent, match="no private key for Ed25519"):
        Tokens.open(tmp_path, clock, SeededIds(1))
