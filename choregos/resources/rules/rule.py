"""A rule about several fields, as a kind declares it and the schema shows it: `x-kubernetes-validations`.

The language and the meaning of each member are those of Kubernetes ("Validation rules" of CustomResourceDefinitions),
so that whoever reads the schema may judge by it: `self` is the value at whose schema the rule stands; a rule that
speaks of `oldSelf` is for updates; a field that may be absent is asked for with `has()` or `.?`.

A rule speaks of fields by their names (`self.a`, `self.a.b`), never of free-form ones, and does not rely on defaults:
lists that are stored as they are written are without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

VALIDATIONS = "x-kubernetes-validations"

INVALID, FORBIDDEN, REQUIRED, DUPLICATE = (
    "FieldValueInvalid",
    "FieldValueForbidden",
    "FieldValueRequired",
    "FieldValueDuplicate",
)
"""The reasons that Kubernetes knows for a rule that does not hold."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What must be true.

    Attributes:
        rule: CEL; a truth value.
        message: what is wrong if it does not hold, for people.
        says: CEL; text with what was found, instead of `message` (`messageExpression`).
        at: the field that is at fault, from here: `.maxUnavailable` (`fieldPath`). Empty: the value itself.
        reason: one of the four above.
    """

    rule: str
    message: str
    says: str = ""
    at: str = ""
    reason: str = INVALID

    def schema(self) -> dict[str, str]:
        """The rule as it stands in a schema."""
        members = {
            "rule": self.rule,
            "message": self.message,
            "messageExpression": self.says,
            "fieldPath": self.at,
            "reason": self.reason,
        }
        return {name: text for name, text in members.items() if text}


def ruled(*rules: Rule) -> dict[str, Any]:
    """For `json_schema_extra`, of a part or of a field."""
    return {VALIDATIONS: [rule.schema() for rule in rules]}


def unchangeable(field: str) -> Rule:
    """A text that no update may change, set, or take away."""
    before, after = (
        rf"(has({each}.{field}) ? '\'' + {each}.{field} + '\'' : 'nothing')" for each in ("oldSelf", "self")
    )
    return Rule(
        f"self.?{field} == oldSelf.?{field}",
        "cannot be changed",
        says=f"'cannot be changed from ' + {before} + ' to ' + {after}",
        at=f".{field}",
        reason=FORBIDDEN,
    )
