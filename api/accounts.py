"""Accounts, buckets and keys, put together: one set of what tenancy consists of, and the calls over it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import timedelta

from aiohttp import web

from api.surfaces.buckets.access import Access
from api.surfaces.buckets.metadata import Metadata
from api.surfaces.buckets.people import People
from api.surfaces.buckets.plan import PlanCalls
from api.surfaces.keys import KeyCalls
from api.surfaces.oauth import OAuth
from api.surfaces.requests import Inbox
from api.tenancy.accounts import Accounts
from api.tenancy.attempts import Attempts
from api.tenancy.billing import Billing
from api.tenancy.buckets import Buckets
from api.tenancy.keys import KeyStore
from api.tenancy.mail import Mail
from api.tenancy.members import Members
from api.tenancy.outbox import Outbox
from api.tenancy.passwords import Passwords
from api.tenancy.payment import NoPayment, Payment
from api.tenancy.plans import Plans
from api.tenancy.secrecy import Secrecy
from api.tenancy.tokens import TokenStore
from query.execute import Reader
from schema.connections import Pool
from schema.metrics import ApiMetrics
from schema.settings import ApiSettings


def add_account_routes(
    app: web.Application,
    settings: ApiSettings,
    pool: Pool,
    reader: Reader,
    inbox: Inbox,
    metrics: ApiMetrics,
    payment: Payment | None = None,
) -> None:
    """Serve ``/api/oauth``, ``/api/bucket`` and the calls for API keys.

    ``pool`` is the primary's; ``payment`` None: no provider.

    Raises Invalid when the settings hold no proper secret key.
    """
    acquire_seconds = settings.database_connect_seconds
    payment = payment or NoPayment()
    mail = Mail(settings)
    outbox = Outbox(settings, mail, metrics)
    passwords, tokens = Passwords(), TokenStore(settings, pool)
    buckets = Buckets(pool, Plans(settings), Secrecy(settings.secret_key), acquire_seconds=acquire_seconds)
    members = Members(
        pool,
        buckets,
        mail,
        payment,
        invitation_life=timedelta(seconds=settings.invitation_seconds),
        acquire_seconds=acquire_seconds,
    )
    access = Access(settings, pool, inbox, buckets)
    OAuth(settings, pool, tokens, Accounts(settings, pool, passwords, tokens, outbox), inbox).add_routes(app)
    Metadata(access, reader, metrics).add_routes(app)
    People(access, members, Attempts(settings.invitations_per_minute, time.monotonic)).add_routes(app)
    billing = Billing(
        pool,
        buckets,
        payment,
        # A session of this pool may idle in its transaction for as long as a request may take to arrive.
        payment_seconds=settings.request_seconds / 2,
        acquire_seconds=acquire_seconds,
    )
    PlanCalls(access, billing).add_routes(app)
    made = Attempts(settings.keys_per_minute, time.monotonic)
    KeyCalls(settings, pool, inbox, KeyStore(pool, acquire_seconds=acquire_seconds), made).add_routes(app)

    async def threads(_app: web.Application) -> AsyncIterator[None]:
        yield
        passwords.close()

    app.cleanup_ctx.append(threads)
    app.cleanup_ctx.append(lambda _app: outbox.lifetime())
