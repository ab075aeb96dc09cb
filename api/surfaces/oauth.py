"""Signing in and out, under ``/api/oauth/``: tokens, registration, passwords. docs/accounts.md has the rules.

A refusal of a token is a 400, never a 401: clients answer a 401 here by asking again at once. What comes in
an ``Authorization`` header is ignored but where the call says otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import orjson
from aiohttp import web
from pydantic import Field, StringConstraints

from api.http.authentication import credential_of, identify
from api.surfaces.requests import MAIL_ADDRESS, Body, Inbox, Storable, checked
from api.tenancy.accounts import Accounts
from api.tenancy.attempts import Attempts
from api.tenancy.tokens import Tokens, TokenStore
from schema.connections import Pool
from schema.errors import Denied, Invalid
from schema.identities import secret_digest
from schema.settings import ApiSettings

PREFIX = "/api/oauth"

Email = Annotated[str, StringConstraints(max_length=254, pattern=MAIL_ADDRESS), Storable]
Secret = Annotated[str, StringConstraints(min_length=1, max_length=200), Storable]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Storable]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024), Storable]


class RefreshGrant(Body):
    """A refresh token for an access token."""

    grant_type: Literal["refresh_token"]
    refresh_token: Secret
    client_id: Annotated[str, StringConstraints(max_length=200), Storable] | int | None = None


class PasswordGrant(Body):
    """An address and a password for both tokens. ``username`` is another name of ``email``."""

    grant_type: Literal["password"]
    email: Email
    password: Password
    client_id: Annotated[str, StringConstraints(max_length=200), Storable] | int | None = None


class CredentialsGrant(Body):
    """An API key for an access token: ``client_id`` is its id or prefix, ``client_secret`` the key."""

    grant_type: Literal["client_credentials"]
    client_id: Secret
    client_secret: Secret


class Revocation(Body):
    """Which token ends; none: the one in the ``Authorization`` header, with its refresh token."""

    token: Secret | None = None
    refresh_token: Secret | None = None


class Registration(Body):
    """A new user. ``invitation``: what was mailed with an invitation."""

    username: Name
    email: Email
    password: Password
    invitation: Secret | None = None
    client_id: Annotated[str, StringConstraints(max_length=200), Storable] | int | None = None


class Reset(Body):
    """First ``email`` alone; then the mailed ``token`` with the new ``password``."""

    email: Email | None = None
    token: Secret | None = None
    password: Password | None = Field(None)


class Confirmation(Body):
    """What was mailed: of a registration, or of an invitation."""

    token: Secret


_GRANTS: dict[str, type[RefreshGrant | PasswordGrant | CredentialsGrant]] = {
    "refresh_token": RefreshGrant,
    "password": PasswordGrant,
    "client_credentials": CredentialsGrant,
}


class Limits:
    """How often each may be tried, from one address and for one account."""

    def __init__(self, settings: ApiSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._hops = settings.forwarded_hops
        self._accounts = Attempts(settings.sign_ins_per_minute, clock)
        self._addresses = Attempts(settings.address_sign_ins_per_minute, clock)
        self._tokens = Attempts(settings.tokens_per_minute, clock)
        self._token_addresses = Attempts(settings.address_tokens_per_minute, clock)

    def sign_in(self, request: web.Request, email: str) -> None:
        """One attempt at an account. Raises Overloaded (429)."""
        self._addresses.take(address_of(request, self._hops))
        self._accounts.take(email.lower())

    def guess(self, request: web.Request) -> None:
        """One attempt that names no account. Raises Overloaded (429)."""
        self._addresses.take(address_of(request, self._hops))

    def token(self, request: web.Request, secret: str) -> None:
        """One token from another secret. Raises Overloaded (429)."""
        self._token_addresses.take(address_of(request, self._hops))
        self._tokens.take(secret_digest(secret).hex())


def address_of(request: web.Request, hops: int) -> str:
    """The caller's network address: the connection's, or what ``hops`` proxies of ours have written down."""
    if hops:
        written = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        # Whatever stands further to the left, the caller may have written himself.
        if len(written) >= hops and (address := written[-hops].strip()):
            return address[:64]
    return request.remote or ""


class OAuth:
    """The calls."""

    def __init__(
        self, settings: ApiSettings, pool: Pool, tokens: TokenStore, accounts: Accounts, inbox: Inbox
    ) -> None:
        self._pool = pool
        self._acquire_seconds = settings.database_connect_seconds
        self._tokens = tokens
        self._accounts = accounts
        self._inbox = inbox
        self._limits = Limits(settings)

    def add_routes(self, app: web.Application) -> None:
        """Serve the calls."""
        app.router.add_post(f"{PREFIX}/token", self.token)
        app.router.add_post(f"{PREFIX}/revoke", self.revoke)
        app.router.add_post(f"{PREFIX}/register", self.register)
        app.router.add_post(f"{PREFIX}/reset_password", self.reset_password)
        app.router.add_post(f"{PREFIX}/confirm", self.confirm)

    async def token(self, request: web.Request) -> web.Response:
        """``POST token``: the three grants."""
        given = dict(await self._inbox.object_or_form_in(request))
        kind = given.get("grant_type")
        if not isinstance(kind, str) or kind not in _GRANTS:
            raise Invalid(f"grant_type: must be one of {', '.join(_GRANTS)}")
        if "username" in given:
            given.setdefault("email", given["username"])
        match checked(_GRANTS[kind], given):
            case RefreshGrant() as grant:
                self._limits.token(request, grant.refresh_token)
                tokens = await self._tokens.refreshed(grant.refresh_token)
            case PasswordGrant() as grant:
                self._limits.sign_in(request, grant.email)
                client_id = str(grant.client_id or "")
                tokens = await self._accounts.signed_in(grant.email, grant.password, client_id)
            case grant:
                self._limits.token(request, grant.client_secret)
                tokens = await self._tokens.of_key(grant.client_id, grant.client_secret)
        return answer(tokens_body(tokens))

    async def revoke(self, request: web.Request) -> web.Response:
        """``POST revoke``: by a token in the body, or by the one that the call comes with."""
        asked = checked(Revocation, await self._inbox.object_or_form_in(request))
        credential = credential_of(request.headers)
        token = asked.token or asked.refresh_token
        if token is None and credential is not None and not credential.is_key:
            token = credential.secret
        if token is None:
            raise Invalid("token: is required, in the body or as Authorization: Bearer")
        self._limits.guess(request)
        if not await self._tokens.revoke(token):
            raise Denied("token: there is none like this", status=404)
        return answer({"revoked": True})

    async def register(self, request: web.Request) -> web.Response:
        """``POST register``: a new user, signed in at once."""
        asked = checked(Registration, await self._inbox.object_in(request))
        self._limits.sign_in(request, asked.email)
        user, tokens = await self._accounts.registered(
            asked.email, asked.username, asked.password, asked.invitation, str(asked.client_id or "")
        )
        about = {
            "_id": user.user_id,
            "username": user.username,
            "email": user.email,
            "email_confirmed": user.confirmed,
        }
        return answer({"user": about, **tokens_body(tokens)})

    async def reset_password(self, request: web.Request) -> web.Response:
        """``POST reset_password``: ask for the mail, then come back with what was in it."""
        asked = checked(Reset, await self._inbox.object_in(request))
        if asked.token is not None:
            if asked.password is None:
                raise Invalid("password: is required with a token")
            self._limits.guess(request)
            await self._accounts.reset(asked.token, asked.password)
            return answer({"reset": True})
        if asked.email is None:
            raise Invalid("email: is required; or token and password")
        self._limits.sign_in(request, asked.email)
        await self._accounts.request_reset(asked.email)
        return answer({"msg": "if the address has an account, a mail is on its way"})

    async def confirm(self, request: web.Request) -> web.Response:
        """``POST confirm``: the signed-in user's address is his own."""
        caller = await identify(self._pool, request.headers, acquire_seconds=self._acquire_seconds)
        if caller.user_id is None or caller.scope is not None:
            raise Denied("only a signed-in user confirms his address")
        asked = checked(Confirmation, await self._inbox.object_in(request))
        self._limits.guess(request)
        return answer(
            {"confirmed": True, "buckets": await self._accounts.confirm(caller.user_id, asked.token)}
        )


def tokens_body(tokens: Tokens) -> dict[str, Any]:
    """The form that clients of the bucket API expect; times in ISO 8601."""
    body: dict[str, Any] = {
        "access_token": tokens.access_token,
        "refresh_token": tokens.refresh_token,
        "expire_at": tokens.expires_at.isoformat(),
        "token_type": "Bearer",
    }
    if tokens.refresh_token is None:
        del body["refresh_token"]
    return body


def answer(body: Mapping[str, Any]) -> web.Response:
    """200, and nobody keeps a copy: it may hold a secret."""
    return web.Response(
        body=orjson.dumps(body), content_type="application/json", headers={"Cache-Control": "no-store"}
    )
