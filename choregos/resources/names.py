"""Names: which are valid where, and how valid ones are made.

Syntax after RFC 1123 as Kubernetes reads it (`k8s.io/apimachinery/pkg/util/validation`), labels and annotations
after its "Labels and Selectors". `*_fault` functions return what is wrong with a name, or an empty string.
"""

from __future__ import annotations

import re

LABEL_LENGTH_MAX = 63
SUBDOMAIN_LENGTH_MAX = 253
STORED_BYTES_MAX = 255
"""Where an object is stored its name is a token of at most so many bytes, in which each byte that is no ASCII letter,
digit, `-` or `_` takes three."""

SET_NAME_LENGTH_MAX = LABEL_LENGTH_MAX - len("-9999999")
"""An agent is named `<set>-<ordinal>`; this leaves room for ten million ordinals, so that no scaling up can fail."""

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
WORD = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
ENVIRONMENT = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_PLAIN = re.compile(r"[A-Za-z0-9_-]")
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_NOT_IN_LABEL = re.compile(r"[^a-z0-9]+")


def label_fault(name: str) -> str:
    """DNS-1123 label: `support-conversation`."""
    if len(name) > LABEL_LENGTH_MAX:
        return f"{name!r} has {len(name)} characters, at most {LABEL_LENGTH_MAX} are allowed"
    if not DNS_LABEL.fullmatch(name):
        return f"{name!r} must be lower-case letters, digits and '-', and begin and end with a letter or digit"
    return ""


def subdomain_fault(name: str) -> str:
    """DNS-1123 subdomain: `node-1.rack-7.example`."""
    if len(name) > SUBDOMAIN_LENGTH_MAX:
        return f"{name[:20]!r}… has {len(name)} characters, at most {SUBDOMAIN_LENGTH_MAX} are allowed"
    if not DNS_SUBDOMAIN.fullmatch(name):
        return f"{name!r} must be lower-case letters, digits, '-' and '.', and begin and end with a letter or digit"
    return _stored_fault(name)


def path_segment_fault(name: str) -> str:
    """Names of roles and their bindings, which may be anything that is one step of a path: `system:discovery`."""
    if len(name) > SUBDOMAIN_LENGTH_MAX:
        return f"{name[:20]!r}… has {len(name)} characters, at most {SUBDOMAIN_LENGTH_MAX} are allowed"
    if not name or name in {".", ".."} or "/" in name or "%" in name or not name.isprintable():
        return f"{name!r} must not be empty, '.' or '..', and not hold '/', '%' or what cannot be printed"
    return _stored_fault(name)


def _stored_fault(name: str) -> str:
    plain = len(_PLAIN.findall(name))
    size = plain + 3 * (len(name.encode()) - plain)
    if size > STORED_BYTES_MAX:
        return f"{name[:20]!r}… takes {size} bytes where it is stored, at most {STORED_BYTES_MAX} are allowed"
    return ""


def word_fault(name: str) -> str:
    """Template, capability and resource names, and label values: `natural_language_processing`, `nlp.v2`."""
    if len(name) > LABEL_LENGTH_MAX:
        return f"{name[:20]!r}… has {len(name)} characters, at most {LABEL_LENGTH_MAX} are allowed"
    if not WORD.fullmatch(name):
        return f"{name!r} must be letters, digits, '-', '_' and '.', and begin and end with a letter or digit"
    return ""


def label_value_fault(value: str) -> str:
    return word_fault(value) if value else ""


def qualified_fault(name: str) -> str:
    """Keys of labels and annotations, finalizers, condition types: `tier`, `choregos.dev/set`."""
    prefix, slash, word = name.rpartition("/")
    if slash:
        fault = "its prefix is empty" if not prefix else subdomain_fault(prefix)
        if fault:
            return f"{name!r}: {fault}"
    return word_fault(word)


def environment_fault(name: str) -> str:
    """Names of environment variables."""
    if not ENVIRONMENT.fullmatch(name):
        return f"{name!r} must be letters, digits, '_', '-' and '.', and not begin with a digit"
    return ""


def key_fault(name: str) -> str:
    """Keys of a ConfigMap or Secret: `config.json`, which can be the name of a file."""
    if len(name) > SUBDOMAIN_LENGTH_MAX:
        return f"{name[:20]!r}… has {len(name)} characters, at most {SUBDOMAIN_LENGTH_MAX} are allowed"
    if not _KEY.fullmatch(name) or name == "." or name.startswith(".."):
        return f"{name!r} must be letters, digits, '-', '_' and '.', and not be '.' or begin with '..'"
    return ""


def dns_label(text: str) -> str:
    """The DNS-1123 form of a template, type or region name: `nlp_agent` becomes `nlp-agent`. May exceed 63 characters.

    Different texts can have the same form; validation refuses two templates of which that is true.
    """
    return _NOT_IN_LABEL.sub("-", text.lower()).strip("-")
