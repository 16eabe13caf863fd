"""The local certificate authority: made at first start, it issues the server's and the users' certificates.

Owns the directory `D/pki`. An identity is one file with key and certificate together, so that no crash leaves one
without the other:

- `ca.pem` the authority with its key; `ca.crt` its certificate alone, for handing out
- `server.pem` the API server; `user-<name>.pem` a user, for example `user-admin.pem`

Invariant: what `Authority` hands out is signed by `ca.pem`, covers what was asked for and is valid for at least a
third of its life. A leaf that is damaged, foreign or old is issued again. A damaged authority is never replaced
silently, as that would lock out everybody who trusts it: that needs a person, and the error says what to do.

ECDSA P-256 rather than Ed25519: kubectl and OpenSSL take both, browsers only the former.
Does not revoke: a certificate that leaks is good until it expires (`docs/security.md`).
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from choregos.foundation.clock import Clock
from choregos.foundation.errors import Permanent
from choregos.foundation.files import PRIVATE_FILE, private_directory, write_atomic
from choregos.wire.subjects import token

log = logging.getLogger(__name__)

AUTHORITY_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=365)

ADMINISTRATORS = "system:masters"
"""The group that may do everything, as in Kubernetes."""

# Clocks of machines differ; a certificate made just now must be valid on all of them.
_BACKDATING = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key and the certificate that goes with it.

    Attributes:
        path: PEM file of both; pass it as certificate file and as key file.
    """

    path: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def life_left(self, wall_ms: int) -> timedelta:
        """Time until it expires; negative when it has."""
        return self.certificate.not_valid_after_utc - _utc(wall_ms)


class Authority:
    """The authority of one data directory."""

    def __init__(self, directory: Path, clock: Clock, identity: Identity) -> None:
        self._directory = directory
        self._clock = clock
        self._identity = identity

    @classmethod
    def open(cls, directory: Path, clock: Clock) -> Authority:
        """The authority in `directory`; makes both when they are not there yet.

        Raises:
            Permanent: the authority's file is damaged, or has expired; the message says what to do.
        """
        private_directory(directory)
        path = directory / "ca.pem"
        if path.exists():
            identity = _load_authority(path, _utc(clock.wall_ms()))
        else:
            _refuse_orphans(directory)
            identity = _new_authority(path, _utc(clock.wall_ms()))
            _save(identity)
        authority = cls(directory, clock, identity)
        if not authority.certificate_path.exists() or authority.certificate_path.read_bytes() != authority.pem:
            write_atomic(authority.certificate_path, authority.pem, mode=0o644)
        return authority

    @property
    def pem(self) -> bytes:
        """The authority's certificate: what clients trust."""
        return self._identity.certificate_pem

    @property
    def certificate_path(self) -> Path:
        """The file that holds `pem`."""
        return self._directory / "ca.crt"

    @property
    def identity(self) -> Identity:
        return self._identity

    def server(self, names: Sequence[str]) -> Identity:
        """The API server's identity, valid for these DNS names and IP addresses (`server_names` lists the usual).

        Call it again, say daily, to have it renewed; the path stays the same.
        """
        wanted = [_general_name(name) for name in dict.fromkeys(names)]
        found = self._load_leaf("server")
        if found is not None and set(wanted) <= _alternative_names(found.certificate):
            return found
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "choregos-api")])
        return self._issue("server", subject, ExtendedKeyUsageOID.SERVER_AUTH, wanted)

    def client(self, user: str, groups: Sequence[str] = ()) -> Identity:
        """A user's identity: common name `user`, one organization per group, as Kubernetes reads them."""
        subject = x509.Name(
            [
                *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in sorted(groups)),
                x509.NameAttribute(NameOID.COMMON_NAME, user),
            ]
        )
        leaf = f"user-{token(user)}"
        found = self._load_leaf(leaf)
        if found is not None and found.certificate.subject == subject:
            return found
        return self._issue(leaf, subject, ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def _load_leaf(self, name: str) -> Identity | None:
        """The stored leaf, or None when there is none that may be used on."""
        path = self._directory / f"{name}.pem"
        if not path.exists():
            return None
        try:
            identity = load_identity(path)
            identity.certificate.verify_directly_issued_by(self._identity.certificate)
        except Exception as error:  # whatever is wrong with it, a new one is the remedy
            log.warning("%s is not usable (%s); issuing it again", path, error or type(error).__name__)
            return None
        now = _utc(self._clock.wall_ms())
        if identity.certificate.not_valid_before_utc > now or identity.life_left(self._clock.wall_ms()) < LEAF_LIFE / 3:
            log.info("%s is near the end of its life; issuing it again", path)
            return None
        return identity

    def _issue(
        self, name: str, subject: x509.Name, usage: x509.ObjectIdentifier, alternative_names: list[x509.GeneralName]
    ) -> Identity:
        now = _utc(self._clock.wall_ms())
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _certificate(subject, key, self._identity.certificate.subject, now, LEAF_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._identity.key.public_key()), critical=False
            )
        )
        if alternative_names:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternative_names), critical=False)
        identity = Identity(
            path=self._directory / f"{name}.pem",
            key=key,
            certificate=builder.sign(self._identity.key, hashes.SHA256()),
        )
        _save(identity)
        return identity


def server_names(hostname: str, extra: Sequence[str] = ()) -> list[str]:
    """The names under which the API server of this machine is reached; `extra` holds addresses it is announced by."""
    usual = ["localhost", "127.0.0.1", "::1", hostname, "choregos", "kubernetes", "kubernetes.default"]
    return [*dict.fromkeys([*usual, *extra])]


def load_identity(path: Path) -> Identity:
    """Reads a PEM file of key and certificate.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not such a file, or key and certificate do not belong together.
    """
    content = path.read_bytes()
    key = serialization.load_pem_private_key(content, password=None)
    certificate = x509.load_pem_x509_certificate(content)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError(f"the key and the certificate in {path} do not belong together")
    return Identity(path, key, certificate)


def _load_authority(path: Path, now: datetime) -> Identity:
    try:
        identity = load_identity(path)
    except (OSError, ValueError) as error:
        raise Permanent(
            f"the certificate authority {path} cannot be read: {error}. Restore it from a backup; or remove the "
            f"directory {path.parent}, and a new one is made: kubeconfigs handed out earlier stop working then."
        ) from error
    if identity.certificate.not_valid_after_utc <= now:
        raise Permanent(
            f"the certificate authority {path} expired on {identity.certificate.not_valid_after_utc:%Y-%m-%d} "
            f"(or this machine's clock is wrong). Remove the directory {path.parent} to have a new one made."
        )
    if path.stat().st_mode & 0o077:
        log.warning("%s was readable by others; now it is for its owner only", path)
        path.chmod(PRIVATE_FILE)
    return identity


def _refuse_orphans(directory: Path) -> None:
    """Leaves without their authority mean that somebody removed it; a new one would make them worthless unnoticed."""
    orphans = sorted(path.name for path in directory.glob("*.pem"))
    if orphans:
        raise Permanent(
            f"{directory} holds {', '.join(orphans)} but not the authority ca.pem that issued them. Restore ca.pem; "
            f"or remove the directory, and a new authority is made: kubeconfigs handed out earlier stop working then."
        )


def _new_authority(path: Path, now: datetime) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "choregos local authority")])
    certificate = (
        _certificate(name, key, name, now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Identity(path, key, certificate)


def _certificate(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    """What authority and leaves have in common."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATING)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _save(identity: Identity) -> None:
    write_atomic(identity.path, identity.key_pem + identity.certificate_pem)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _alternative_names(certificate: x509.Certificate) -> set[x509.GeneralName]:
    return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def _utc(wall_ms: int) -> datetime:
    return datetime.fromtimestamp(wall_ms / 1000, UTC)
