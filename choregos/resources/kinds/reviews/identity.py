"""Reviews of identity (`authentication.k8s.io/v1`): who am I, whose token is this; and the request for a token."""

from __future__ import annotations

from pydantic import Field

from choregos.resources.kind import Kind
from choregos.resources.kinds.core.serviceaccount import AUTHENTICATION
from choregos.resources.kinds.parts import ObjectMeta, Part, Resource, Time

TOKEN_SECONDS_MIN, TOKEN_SECONDS_DEFAULT = 600, 3600


class UserInfo(Part):
    """Somebody who is known."""

    username: str = ""
    """Name, unique among all users at a time."""
    uid: str | None = None
    """Unique over all time."""
    groups: list[str] | None = None
    """Groups the user is in."""
    extra: dict[str, list[str]] | None = None
    """Further facts about the user."""


class SelfSubjectReviewStatus(Part):
    """The answer."""

    user_info: UserInfo | None = None
    """Who asks."""


class SelfSubjectReview(Resource):
    """Who am I?"""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    """Not needed."""
    status: SelfSubjectReviewStatus | None = None
    """The answer."""


class TokenReviewSpec(Part):
    """The token."""

    token: str = Field(min_length=1)
    """The token."""
    audiences: list[str] | None = None
    """For whom it should be; without any, for the API server."""


class TokenReviewStatus(Part):
    """The answer."""

    authenticated: bool | None = None
    """Whether it is a valid token of a known user."""
    user: UserInfo | None = None
    """Whose it is."""
    audiences: list[str] | None = None
    """Which of the audiences that were asked for it is for."""
    error: str | None = None
    """Why it is not valid."""


class TokenReview(Resource):
    """Whose token is this?"""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    """Not needed."""
    spec: TokenReviewSpec
    """The token."""
    status: TokenReviewStatus | None = None
    """The answer."""


class BoundObjectReference(Part):
    """An object that the token ends with."""

    kind: str = ""
    """Kind of the object."""
    api_version: str = ""
    """API version of the object."""
    name: str = ""
    """Name of the object."""
    uid: str = ""
    """UID of the object."""


class TokenRequestSpec(Part):
    """What token is wanted."""

    audiences: list[str] | None = Field(default=None, max_length=16)
    """For whom it is; without any, for the API server. Nobody else shall accept it."""
    expiration_seconds: int = Field(default=TOKEN_SECONDS_DEFAULT, ge=TOKEN_SECONDS_MIN, le=2**32)
    """How long it is valid. At least 600; a very long time is cut short, see `status.expirationTimestamp`."""
    bound_object_ref: BoundObjectReference | None = None
    """A Secret of the same namespace: the token is not valid any more once that is gone."""


class TokenRequestStatus(Part):
    """The answer."""

    token: str = ""
    """The token."""
    expiration_timestamp: Time | None = None
    """When it ends."""


class TokenRequest(Resource):
    """Makes a token of a service account."""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)
    """Not needed."""
    spec: TokenRequestSpec = Field(default_factory=TokenRequestSpec)
    """What token is wanted."""
    status: TokenRequestStatus | None = None
    """The answer."""


SELFSUBJECTREVIEW = Kind(
    group=AUTHENTICATION,
    version="v1",
    kind="SelfSubjectReview",
    plural="selfsubjectreviews",
    singular="selfsubjectreview",
    namespaced=False,
    model=SelfSubjectReview,
    verbs=frozenset({"create"}),
    has_status=False,
    plane="virtual",
)
TOKENREVIEW = Kind(
    group=AUTHENTICATION,
    version="v1",
    kind="TokenReview",
    plural="tokenreviews",
    singular="tokenreview",
    namespaced=False,
    model=TokenReview,
    verbs=frozenset({"create"}),
    has_status=False,
    plane="virtual",
)
TOKENREQUEST = Kind(
    group=AUTHENTICATION,
    version="v1",
    kind="TokenRequest",
    plural="tokenrequests",
    singular="tokenrequest",
    namespaced=True,
    model=TokenRequest,
    verbs=frozenset({"create"}),
    has_status=False,
    plane="virtual",
)
"""Of the subresource `serviceaccounts/token`; not a resource of its own."""
