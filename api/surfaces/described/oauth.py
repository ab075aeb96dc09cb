"""Signing in and out, described."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from api.http.openapi.operations import JSON, TOKEN_ONLY, Answer, Content, Operation, json_of
from api.http.openapi.refusals import BODY, MESSAGE
from api.surfaces.described.steps import HexId, Shown
from api.surfaces.oauth import (
    PREFIX,
    Confirmation,
    CredentialsGrant,
    PasswordGrant,
    RefreshGrant,
    Registration,
    Reset,
    Revocation,
)

TAG = "oauth"
FORM = "application/x-www-form-urlencoded"


class TokensAnswer(Shown):
    """Tokens."""

    access_token: str
    refresh_token: str | None = Field(None, description="Not there for a key.")
    expire_at: datetime = Field(description="When the access token ends.")
    token_type: Literal["Bearer"]


class UserAnswer(Shown):
    """A user."""

    id: HexId = Field(alias="_id")
    username: str
    email: str
    email_confirmed: bool


class Registered(TokensAnswer):
    """The new user, signed in."""

    user: UserAnswer


class Revoked(Shown):
    """It has ended."""

    revoked: Literal[True]


class ResetAnswer(Shown):
    """The password is new."""

    reset: Literal[True]


class MailedAnswer(Shown):
    """Says nothing of whether the address has an account."""

    msg: str


class Confirmed(Shown):
    """The address is the user's."""

    confirmed: Literal[True]
    buckets: list[HexId] = Field(description="Those that this has opened.")


def _call(
    path: str,
    summary: str,
    answer: Answer,
    bodies: tuple[Content, ...],
    said: Mapping[int, str] | None = None,
    **more: Any,
) -> Operation:
    return Operation(
        "POST",
        f"{PREFIX}/{path}",
        TAG,
        summary,
        {200: answer, **MESSAGE.refusals(*BODY, 429, said=said)},
        bodies=bodies,
        **more,
    )


def _json(of: type[BaseModel], **examples: Any) -> tuple[Content, ...]:
    return (Content(of, JSON, examples),)


_GRANT = RefreshGrant | PasswordGrant | CredentialsGrant

OPERATIONS = (
    _call(
        "token",
        "Get tokens",
        json_of("The tokens.", TokensAnswer),
        (Content(_GRANT), Content(_GRANT, FORM)),
        {400: "The grant is malformed, or what it rests on is unknown, over or revoked. Never 401."},
        description="`refresh_token` gives the same refresh token back, any number of times, until it is "
        "revoked; sessions of the console get a new one each time. `username` is another name of `email`.",
        body_required=True,
    ),
    _call(
        "revoke",
        "End a token",
        json_of("It has ended, with all that came from it.", Revoked),
        (Content(Revocation), Content(Revocation, FORM)),
        {404: "There is no such token."},
        description="Without a token in the body: the one that the call comes with.",
        security=((), *TOKEN_ONLY),
    ),
    _call(
        "register",
        "Become a user",
        json_of("The user, signed in.", Registered),
        _json(
            Registration,
            registration={"username": "Ada", "email": "ada@example.com", "password": "correct horse"},
        ),
        {403: "Only who was invited may register here.", 409: "The address has an account."},
        body_required=True,
    ),
    _call(
        "reset_password",
        "Reset a password",
        json_of(
            "A mail is on its way, if the address has an account; or the password is new.",
            MailedAnswer | ResetAnswer,
        ),
        _json(Reset, first={"email": "ada@example.com"}),
        description="First `email` alone; then the mailed `token` with the new `password`.",
        body_required=True,
    ),
    _call(
        "confirm",
        "Confirm an address",
        json_of("It is the caller's.", Confirmed),
        _json(Confirmation),
        {401: "No user's token, or one that is over.", 403: "The caller is a key."},
        body_required=True,
        security=TOKEN_ONLY,
    ),
)
