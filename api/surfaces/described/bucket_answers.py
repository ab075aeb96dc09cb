"""What the calls of buckets answer, as models; ``api.surfaces.buckets.bodies`` makes these answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from api.surfaces.described.steps import HexId, Shown
from schema.events import Status
from schema.identities import Role


class Endpoints(Shown):
    """Where a bucket's calls go."""

    web: str
    realtime: str


class BucketNode(Shown):
    """Where a bucket lives."""

    endpoints: Endpoints


class Offer(Shown):
    """A plan, as clients look for it."""

    offer_type: str


class BucketAnswer(Shown):
    """A bucket, as the caller sees it."""

    id: HexId = Field(alias="_id")
    name: str
    comment: str
    app_url: str
    public_id: str
    secret_id: str | None = Field(None, description="There for owner and admins only.")
    configuration: dict[str, Any]
    plan: str = Field(description="What holds, a trial included.")
    node: BucketNode
    credits: Offer
    payment: Offer
    created_at: datetime
    workspace_id: HexId
    role: Role | None = Field(description="What the caller counts as; null for a key.")
    user_options: dict[str, Any] = Field(description="What the caller wants of the bucket.")


class OneBucket(Shown):
    """A bucket under its name."""

    bucket: BucketAnswer


class MemberAnswer(Shown):
    """A member of a bucket."""

    id: HexId = Field(alias="_id")
    username: str
    email: str
    role: Role
    roles: list[Role]


class NotificationAnswer(Shown):
    """How a member hears of things."""

    email: str
    state: Literal["email", "none"]


class InvitationAnswer(Shown):
    """Who is invited and has not come yet."""

    email: str
    role: Role
    invited_at: datetime


class Invitations(Shown):
    """All open invitations of a bucket."""

    invitations: list[InvitationAnswer]


class RoleAnswer(Shown):
    """What the caller counts as."""

    role: Role | None


class ServerNode(Shown):
    """The newest report of the server's node."""

    ip: str
    host: str
    version: str
    status: Status


class ServerAnswer(Shown):
    """What was heard from one server."""

    server_name: str
    apps: list[str]
    first_seen: datetime
    last_seen: datetime
    event_count: int = Field(ge=0)
    node: ServerNode | None


class FeedbackAnswer(Shown):
    """The feedback, kept."""

    feedback: str


class TrialAnswer(Shown):
    """The trial that has begun."""

    duration: str
    plan: str


class SubscriptionAnswer(Shown):
    """What is charged for."""

    id: str | None = Field(alias="_id", description="Null for a plan that costs nothing.")
    plan: str
    started_at: datetime | None


class UpgradeAnswer(Shown):
    """The bucket on its new plan."""

    bucket: BucketAnswer
    subscription: SubscriptionAnswer


class ChargeAnswer(Shown):
    """One invoice. The amount is in the currency's smallest unit."""

    id: str = Field(alias="_id")
    amount: int
    currency: str
    created_at: datetime
    paid: bool
