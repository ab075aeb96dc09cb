"""What the calls of buckets take, as models, and the form of what they answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, Field, StringConstraints

from api.surfaces.requests import MAIL_ADDRESS, OBJECT_ID, WEB_ADDRESS, Body, Storable, Text
from api.tenancy.billing import Subscription
from api.tenancy.buckets import Bucket
from api.tenancy.invitations import Invitation
from api.tenancy.members import Member
from api.tenancy.payment import Charge
from query.servers import Server
from schema.errors import Invalid
from schema.identities import Role

# A JSON object kept with a bucket, as text.
MAX_OBJECT_BYTES = 64 * 1024

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Storable]
Comment = Annotated[str, StringConstraints(max_length=10_000), Storable]
Url = Annotated[str, StringConstraints(max_length=2000, pattern=WEB_ADDRESS), Storable]
Email = Annotated[Text, StringConstraints(strip_whitespace=True, max_length=254, pattern=MAIL_ADDRESS)]


def _notification(value: Any) -> Any:
    # The document spells one of the two states "nonde".
    return "none" if value == "nonde" else value


class NewBucket(Body):
    """``POST create_classic``. ``workspace_id``: where it lies; default: the first that the caller owns."""

    name: Name
    comment: Comment | None = None
    app_url: Url | None = None
    workspace_id: Annotated[str, StringConstraints(pattern=OBJECT_ID)] | None = None


class ChangedBucket(Body):
    """``PUT /api/bucket/:id``. ``configuration``: a JSON object, or its text."""

    name: Name | None = None
    comment: Comment | None = None
    app_url: Url | None = None
    configuration: dict[str, Any] | Text | None = None


class Address(Body):
    """``POST add_user``, ``POST remove_user``, ``DELETE invitation``."""

    email: Email = Field(description="Whose.")


class Promotion(Body):
    """``POST promote_user``."""

    email: Email
    role: Role


class Notification(Body):
    """``POST manage_notif``."""

    email: Email
    state: Annotated[Literal["email", "none"], BeforeValidator(_notification)]


class Transfer(Body):
    """``POST transfer_ownership``."""

    new_owner: Email


class Feedback(Body):
    """``PUT feedback``."""

    feedback: Annotated[str, StringConstraints(min_length=1, max_length=10_000), Storable]


class Options(Body):
    """``PUT user_options``: what the caller wants of the bucket for himself."""

    options: dict[str, Any]


class Upgrade(Body):
    """``POST upgrade``."""

    plan: Annotated[str, StringConstraints(min_length=1, max_length=100), Storable]
    stripe_token: Annotated[str, StringConstraints(max_length=500), Storable] | None = None
    coupon_id: Annotated[str, StringConstraints(max_length=500), Storable] | None = None


def object_text(value: dict[str, Any] | str, field: str) -> str:
    """A JSON object, or its text, as the text that PostgreSQL will keep. Raises Invalid."""
    try:
        found = orjson.loads(value) if isinstance(value, str) else value
        text = orjson.dumps(found)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        found, text = None, b""
    if not isinstance(found, dict):
        raise Invalid(f"{field}: must be a JSON object, or the text of one")
    if len(text) > MAX_OBJECT_BYTES:
        raise Invalid(f"{field}: longer than {MAX_OBJECT_BYTES} bytes as JSON")
    if b"\\u0000" in text and b"\\u0000" in text.replace(b"\\\\", b""):
        raise Invalid(f"{field}: must not contain the character U+0000")
    return text.decode()


def bucket_body(
    bucket: Bucket, *, plan: str, paid_plan: str, role: Role | None, url: str, secret_id: str | None
) -> dict[str, Any]:
    """A bucket. ``plan``: what holds, a trial included; ``paid_plan``: what holds without it.

    ``secret_id`` is there for its owner and admins only (null while there is no key to keep it under).
    """
    body: dict[str, Any] = {
        "_id": bucket.bucket_id,
        "name": bucket.name,
        "comment": bucket.comment,
        "app_url": bucket.app_url,
        "public_id": bucket.public_id,
        "configuration": orjson.Fragment(bucket.configuration),
        "plan": plan,
        "node": {"endpoints": {"web": url, "realtime": url}},
        "credits": {"offer_type": plan},
        "payment": {"offer_type": paid_plan},
        "created_at": bucket.created_at.isoformat(),
        "workspace_id": bucket.workspace_id,
        "role": role,
        "user_options": orjson.Fragment(bucket.user_options or "{}"),
    }
    if role in (Role.OWNER, Role.ADMIN):
        body["secret_id"] = secret_id
    return body


def members_body(members: Iterable[Member]) -> list[dict[str, Any]]:
    """Members, as they came."""
    return [
        {
            "_id": member.user_id,
            "username": member.username,
            "email": member.email,
            "role": member.role,
            "roles": [member.role],
        }
        for member in members
    ]


def notifications_body(members: Iterable[Member]) -> list[dict[str, Any]]:
    """How each member hears of things."""
    return [{"email": member.email, "state": member.notification} for member in members]


def invitations_body(invitations: Iterable[Invitation]) -> dict[str, Any]:
    """Who is invited and has not come yet."""
    return {
        "invitations": [
            {"email": one.email, "role": one.role, "invited_at": one.created_at.isoformat()}
            for one in invitations
        ]
    }


def server_body(server: Server) -> dict[str, Any]:
    """What was heard from one server."""
    node = server.node
    return {
        "server_name": server.name,
        "apps": sorted(server.apps - {""}),
        "first_seen": server.first_seen.isoformat(),
        "last_seen": server.last_seen.isoformat(),
        "event_count": server.event_count,
        "node": None
        if node is None
        else {"ip": node.ip, "host": node.host, "version": node.version, "status": node.status},
    }


def subscription_body(subscription: Subscription) -> dict[str, Any]:
    """What is charged for."""
    started_at = subscription.started_at
    return {
        "_id": subscription.subscription_id,
        "plan": subscription.plan,
        "started_at": None if started_at is None else started_at.isoformat(),
    }


def charge_body(charge: Charge) -> dict[str, Any]:
    """One invoice."""
    return {
        "_id": charge.charge_id,
        "amount": charge.amount,
        "currency": charge.currency,
        "created_at": charge.created_at.isoformat(),
        "paid": charge.paid,
    }
