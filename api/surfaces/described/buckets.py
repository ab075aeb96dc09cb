"""Surface 001, described: the bucket itself, and its plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from api.http.openapi.operations import (
    TOKEN_ONLY,
    TOKEN_OR_KEY,
    Answer,
    Content,
    Operation,
    bucket_id,
    json_of,
)
from api.http.openapi.refusals import BODY, BUCKET, IN_BUCKET, SIGNED_IN
from api.surfaces.buckets.access import ONE, PREFIX
from api.surfaces.buckets.bodies import ChangedBucket, Feedback, NewBucket, Options, Upgrade
from api.surfaces.described.bucket_answers import (
    BucketAnswer,
    ChargeAnswer,
    FeedbackAnswer,
    OneBucket,
    ServerAnswer,
    SubscriptionAnswer,
    TrialAnswer,
    UpgradeAnswer,
)
from api.surfaces.described.steps import RECEIPT

TAG = "buckets"


def about_bucket(
    method: str,
    path: str,
    summary: str,
    answer: Answer,
    *,
    body: type[BaseModel] | None = None,
    example: Mapping[str, Any] | None = None,
    said: Mapping[int, str] | None = None,
    reads_body: bool = False,
    tag: str = TAG,
    **more: Any,
) -> Operation:
    """A call of one bucket. ``said``: what its refusals mean, beside those that every call of one has.

    ``reads_body``: it reads one although it has no need of it.
    """
    contents = () if body is None else (Content(body, examples={"a call": example} if example else {}),)
    statuses = (*IN_BUCKET, *BODY) if reads_body or body is not None else IN_BUCKET
    more.setdefault("security", TOKEN_ONLY)
    parameters = (bucket_id(), *more.pop("parameters", ()))
    return Operation(
        method,
        f"{ONE}{path}",
        tag,
        summary,
        {200: answer, **BUCKET.refusals(*statuses, said=said)},
        parameters=parameters,
        bodies=contents,
        body_required=bool(contents),
        **more,
    )


def _listing(path: str) -> Operation:
    return Operation(
        "GET",
        path,
        TAG,
        "The buckets that the caller is a member of",
        {200: json_of("Oldest first.", list[BucketAnswer]), **BUCKET.refusals(*IN_BUCKET)},
        security=TOKEN_OR_KEY,
    )


OPERATIONS = (
    _listing(PREFIX),
    _listing(f"{PREFIX}/"),
    Operation(
        "POST",
        f"{PREFIX}/create_classic",
        TAG,
        "Create a bucket",
        {
            200: json_of("The new bucket; the caller owns it.", OneBucket),
            **BUCKET.refusals(
                *SIGNED_IN,
                *BODY,
                said={
                    403: "No more buckets on the plan, or no right in the workspace, or the caller is a key."
                },
            ),
        },
        bodies=(
            Content(NewBucket, examples={"a bucket": {"name": "shop", "app_url": "https://shop.example"}}),
        ),
        body_required=True,
        security=TOKEN_ONLY,
    ),
    about_bucket("GET", "", "A bucket", json_of("The bucket.", BucketAnswer), security=TOKEN_OR_KEY),
    about_bucket(
        "PUT",
        "",
        "Change a bucket",
        json_of("The bucket as it is now.", BucketAnswer),
        body=ChangedBucket,
        example={"comment": "what the shop sends", "configuration": {"threshold": 5}},
        description="At least one of the four is given; what is left out stays.",
    ),
    about_bucket("DELETE", "", "Delete a bucket", json_of("What it was.", BucketAnswer)),
    about_bucket(
        "GET",
        "/meta_servers",
        "The servers that a bucket has heard from",
        json_of("One entry a server.", list[ServerAnswer], ["X-Weir-Incomplete"]),
        said={400: "The receipt cannot be met."},
        parameters=(RECEIPT,),
        security=TOKEN_OR_KEY,
    ),
    about_bucket(
        "PUT",
        "/feedback",
        "Send feedback",
        json_of("It is kept.", FeedbackAnswer),
        body=Feedback,
        example={"feedback": "It counts."},
    ),
    about_bucket(
        "PUT",
        "/user_options",
        "Keep what the caller wants of the bucket",
        json_of("The bucket with them.", OneBucket),
        body=Options,
        example={"options": {"theme": "dark"}},
    ),
    about_bucket(
        "PUT",
        "/start_trial",
        "Begin the trial",
        json_of("It has begun.", TrialAnswer),
        said={400: "It has had one, is on that plan already, or no plan has a trial."},
        deprecated=True,
    ),
    about_bucket(
        "POST",
        "/upgrade",
        "Change the plan",
        json_of("The bucket on its new plan.", UpgradeAnswer),
        body=Upgrade,
        said={403: "A credit card is needed, the plan has no room for the bucket, or it is on it already."},
        deprecated=True,
    ),
    about_bucket(
        "GET",
        "/subscription",
        "What is charged for",
        json_of("The subscription.", SubscriptionAnswer),
        said={404: "No bucket of this id, or it has no subscription."},
        deprecated=True,
    ),
    about_bucket(
        "GET",
        "/payment/charges",
        "Invoices",
        json_of("Newest first.", list[ChargeAnswer]),
        said={400: "A body that is no JSON object; it may as well be left out."},
        reads_body=True,
        deprecated=True,
    ),
)
