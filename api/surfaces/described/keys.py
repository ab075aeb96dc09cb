"""API keys, described."""

from __future__ import annotations

from api.http.openapi.operations import TOKEN_ONLY, Content, Operation, bucket_id, json_of
from api.http.openapi.refusals import BODY, IN_BUCKET, PROBLEM, SIGNED_IN
from api.surfaces.described.steps import text
from api.surfaces.keys import BUCKET_KEYS, OWN_KEYS, FreshKey, Key, KeyPage, KeysQuestion, NewKey

TAG = "API keys"


def _calls(path: str, whose: str, *, of_bucket: bool) -> tuple[Operation, ...]:
    parameters = (bucket_id(),) if of_bucket else ()
    may = IN_BUCKET if of_bucket else SIGNED_IN
    return (
        Operation(
            "POST",
            path,
            TAG,
            f"Make a key of {whose}",
            {
                201: json_of("The key; its text is shown this once.", FreshKey),
                **PROBLEM.refusals(*may, *BODY, 429),
            },
            parameters=parameters,
            bodies=(Content(NewKey, examples={"a key that reads": {"scope": "read", "name": "dashboard"}}),),
            body_required=True,
            security=TOKEN_ONLY,
        ),
        Operation(
            "GET",
            path,
            TAG,
            f"The keys of {whose}",
            {200: json_of("A page of them, oldest first.", KeyPage), **PROBLEM.refusals(400, *may)},
            parameters=parameters,
            query=KeysQuestion,
            security=TOKEN_ONLY,
        ),
        Operation(
            "DELETE",
            f"{path}/{{key_id}}",
            TAG,
            f"Revoke a key of {whose}",
            {
                200: json_of("What it was. It opens nothing any more.", Key),
                **PROBLEM.refusals(*may, said={404: "There is no such key here."}),
            },
            parameters=(*parameters, text("key_id", "The key's id.")),
            security=TOKEN_ONLY,
        ),
    )


OPERATIONS = (
    *_calls(BUCKET_KEYS, "a bucket", of_bucket=True),
    *_calls(OWN_KEYS, "the caller", of_bucket=False),
)
