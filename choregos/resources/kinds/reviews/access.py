"""Reviews of access (`authorization.k8s.io/v1`): may I, may that user, what all may I."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from choregos.foundation.errors import FieldError
from choregos.resources.kind import Kind, ReadOnlyObject
from choregos.resources.kinds.parts import FreeForm, ObjectMeta, Part, Resource

GROUP = "authorization.k8s.io"


class ResourceAttributes(Part):
    """What would be done to which resource."""

    namespace: str = ""
    """Namespace; empty for all, and for what has none."""
    verb: str = ""
    """What would be done: `get`, `list`, `create`, …; `*` is all."""
    group: str = ""
    """API group; empty is the core group, `*` all."""
    version: str = ""
    """API version. Does not matter."""
    resource: str = ""
    """Resource; `*` is all."""
    subresource: str = ""
    """Subresource."""
    name: str = ""
    """Name of the object; empty is all."""
    field_selector: FreeForm | None = None
    """Only objects with these fields. Accepted; rules know nothing of it, so access is judged without."""
    label_selector: FreeForm | None = None
    """Only objects with these labels. Accepted; rules know nothing of it, so access is judged without."""


class NonResourceAttributes(Part):
    """What would be done to which path that is no resource."""

    path: str = ""
    """The path."""
    verb: str = ""
    """HTTP method in lower case."""


class SelfSubjectAccessReviewSpec(Part):
    """What would be done. Exactly one of the two."""

    resource_attributes: ResourceAttributes | None = None
    """Something to a resource."""
    non_resource_attributes: NonResourceAttributes | None = None
    """Something to a path that is no resource."""


class SubjectAccessReviewSpec(SelfSubjectAccessReviewSpec):
    """What would be done, and by whom."""

    user: str = ""
    """Name of the user."""
    groups: list[str] | None = None
    """Groups of the user; those that everybody has are not added."""
    uid: str = ""
    """UID of the user."""
    extra: dict[str, list[str]] | None = None
    """Further facts about the user."""


class SubjectAccessReviewStatus(Part):
    """The answer."""

    allowed: bool = False
    """Whether it may be done."""
    denied: bool | None = None
    """Whether it is refused whatever others say. Rules never do that."""
    reason: str | None = None
    """Which binding allows it, or which rule is missing."""
    evaluation_error: str | None = None
    """What went wrong while this was found out."""


class SelfSubjectAccessReview(Resource):
    """May I do this?"""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    """Not needed."""
    spec: SelfSubjectAccessReviewSpec
    """What would be done."""
    status: SubjectAccessReviewStatus | None = None
    """The answer."""


class SubjectAccessReview(SelfSubjectAccessReview):
    """May that user do this?"""

    spec: SubjectAccessReviewSpec
    """What would be done, and by whom."""


class LocalSubjectAccessReview(SubjectAccessReview):
    """May that user do this in this namespace?"""


class SelfSubjectRulesReviewSpec(Part):
    """Where."""

    namespace: str = Field(min_length=1)
    """Namespace to be judged."""


class ResourceRule(Part):
    """What may be done to resources."""

    verbs: list[str]
    """What may be done."""
    api_groups: list[str] | None = None
    """API groups of the resources."""
    resources: list[str] | None = None
    """Resources."""
    resource_names: list[str] | None = None
    """Names of the objects; without it all."""


class NonResourceRule(Part):
    """What may be done to paths that are no resource."""

    verbs: list[str]
    """HTTP methods in lower case."""
    non_resource_urls: Annotated[list[str] | None, Field(alias="nonResourceURLs")] = None
    """The paths."""


class SubjectRulesReviewStatus(Part):
    """The answer."""

    resource_rules: list[ResourceRule]
    """What may be done to resources."""
    non_resource_rules: list[NonResourceRule]
    """What may be done to paths that are no resource."""
    incomplete: bool = False
    """Whether there may be more."""
    evaluation_error: str | None = None
    """What went wrong while this was found out."""


class SelfSubjectRulesReview(Resource):
    """What all may I do in this namespace?"""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    """Not needed."""
    spec: SelfSubjectRulesReviewSpec
    """Where."""
    status: SubjectRulesReviewStatus | None = None
    """The answer."""


def _one_question(obj: ReadOnlyObject) -> Iterator[FieldError]:
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return
    asked = [name for name in ("resourceAttributes", "nonResourceAttributes") if spec.get(name) is not None]
    if len(asked) != 1:
        yield FieldError("spec.resourceAttributes", "exactly one of this and nonResourceAttributes must be given")
    path = spec.get("nonResourceAttributes")
    if isinstance(path, dict) and not path.get("path"):
        yield FieldError("spec.nonResourceAttributes.path", "is required", "FieldValueRequired")


def _question_about_somebody(obj: ReadOnlyObject) -> Iterator[FieldError]:
    yield from _one_question(obj)
    spec = obj.get("spec")
    if isinstance(spec, dict) and not spec.get("user") and not spec.get("groups"):
        yield FieldError("spec.user", "a user or groups must be named", "FieldValueRequired")


SELFSUBJECTACCESSREVIEW = Kind(
    group=GROUP,
    version="v1",
    kind="SelfSubjectAccessReview",
    plural="selfsubjectaccessreviews",
    singular="selfsubjectaccessreview",
    namespaced=False,
    model=SelfSubjectAccessReview,
    verbs=frozenset({"create"}),
    has_status=False,
    plane="virtual",
    rules=_one_question,
)
SUBJECTACCESSREVIEW = Kind(
    group=GROUP,
    version="v1",
    kind="SubjectAccessReview",
    plural="subjectaccessreviews",
    singular="subjectaccessreview",
    namespaced=False,
    model=SubjectAccessReview,
    verbs=frozenset({"create"}),
    has_status=False,
    plane="virtual",
    rules=_question_about_somebody,
)
LOCALSUBJECTACCESSREVIEW = Kind(
    group=GROUP,
    version="v1",
    kind="LocalSubjectAccessReview",
    plural="localsubjectaccessreviews",
    singular="localsubjectaccessreview",
    namespaced=True,
    model=LocalSubjectAccessReview,
    verbs=frozenset({"create"}),
    has_status=False,
    plane="virtual",
    rules=_question_about_somebody,
)
SELFSUBJECTRULESREVIEW = Kind(
    group=GROUP,
    version="v1",
    kind="SelfSubjectRulesReview",
    plural="selfsubjectrulesreviews",
    singular="selfsubjectrulesreview",
    namespaced=False,
    model=SelfSubjectRulesReview,
    verbs=frozenset({"create"}),
    has_status=False,
    plane="virtual",
)
