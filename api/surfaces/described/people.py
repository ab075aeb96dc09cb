"""Surface 001, described: members of a bucket, their roles, invitations and notifications."""

from __future__ import annotations

from api.http.openapi.operations import json_of
from api.surfaces.buckets.bodies import Address, Notification, Promotion, Transfer
from api.surfaces.described.bucket_answers import (
    BucketAnswer,
    Invitations,
    MemberAnswer,
    NotificationAnswer,
    RoleAnswer,
)
from api.surfaces.described.buckets import about_bucket

TAG = "members"
_NO_MEMBER = "No bucket of this id, or it has no such member."

OPERATIONS = (
    about_bucket("GET", "/current_role", "The caller's role", json_of("The role.", RoleAnswer), tag=TAG),
    about_bucket(
        "GET", "/users_authorized", "Members", json_of("The owner first.", list[MemberAnswer]), tag=TAG
    ),
    about_bucket(
        "POST",
        "/add_user",
        "Add a member, or invite somebody",
        json_of("The open invitations.", Invitations),
        body=Address,
        example={"email": "friend@example.com"},
        said={403: "No right, or no more members on the plan.", 429: "Too many invitations."},
        tag=TAG,
    ),
    about_bucket(
        "DELETE",
        "/invitation",
        "Withdraw an invitation",
        json_of("The open invitations.", Invitations),
        said={400: "No address, or it has no invitation."},
        reads_body=True,
        description="The address may come in a JSON body too; the body counts before the query string.",
        query=Address,
        tag=TAG,
    ),
    about_bucket(
        "POST",
        "/remove_user",
        "Remove a member",
        json_of("The members that are left.", list[MemberAnswer]),
        body=Address,
        said={403: "No right, or it is the owner.", 404: _NO_MEMBER},
        tag=TAG,
    ),
    about_bucket(
        "POST",
        "/promote_user",
        "Change a member's role",
        json_of("The members.", list[MemberAnswer]),
        body=Promotion,
        said={
            400: "No address, or no role that can be given; nobody is promoted to owner.",
            403: "No right, or it is the owner.",
            404: _NO_MEMBER,
        },
        tag=TAG,
    ),
    about_bucket(
        "POST",
        "/manage_notif",
        "Set how a member hears of things",
        json_of("The state of each member.", list[NotificationAnswer]),
        body=Notification,
        said={403: "Only an admin sets the states of others.", 404: _NO_MEMBER},
        description="Of oneself, or, with the right to manage, of anybody. `nonde` is `none`.",
        tag=TAG,
    ),
    about_bucket(
        "POST",
        "/transfer_ownership",
        "Give the bucket away",
        json_of("The bucket; its old owner is admin.", BucketAnswer),
        body=Transfer,
        said={
            403: "No right, no card for a paid plan, or the new owner has no room for one more bucket.",
            404: "No bucket of this id, or no user of this address.",
        },
        tag=TAG,
    ),
)
