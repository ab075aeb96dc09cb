"""What a refused body is told."""

from __future__ import annotations

from typing import Any

import pytest

from api.surfaces.buckets.bodies import (
    Address,
    ChangedBucket,
    NewBucket,
    Notification,
    Options,
    Promotion,
)
from api.surfaces.requests import Body, checked
from schema.errors import Invalid


@pytest.mark.parametrize(
    ("model", "given", "told"),
    [
        (NewBucket, {}, "name: required"),
        (NewBucket, {"name": 7}, "name: must be a string"),
        (NewBucket, {"name": ""}, "name: must have 1 or more characters"),
        (NewBucket, {"name": "x" * 201}, "name: must have 200 characters at most"),
        (ChangedBucket, {"configuration": 7}, "configuration: must be a JSON object or a string"),
        (Options, {"options": []}, "options: must be a JSON object"),
        (Notification, {"email": "a@b", "state": "on"}, "state: must be 'email' or 'none'"),
        (Promotion, {"email": "a@b", "role": "king"}, "role: must be 'user', 'admin' or 'owner'"),
        (NewBucket, {"name": "a\0b"}, "name: must not contain the character U+0000"),
        (NewBucket, {"name": "a", "app_url": "ftp://x"}, "app_url: must be an address that begins with http"),
        (
            NewBucket,
            {"name": "a", "workspace_id": "x"},
            "workspace_id: must be an id of 24 hexadecimal digits",
        ),
        (Address, {"email": "ada"}, "email: must be a mail address, like ada@example.com"),
    ],
)
def test_a_refusal_names_the_field_and_says_in_words_what_it_must_be(
    model: type[Body], given: dict[str, Any], told: str
) -> None:
    with pytest.raises(Invalid) as refused:
        checked(model, given)
    assert refused.value.message.startswith(told)
