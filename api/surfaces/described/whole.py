"""The description of the query API: all that it serves."""

from __future__ import annotations

from importlib.metadata import version

from api.http.openapi import fittings
from api.http.openapi.document import About
from api.surfaces.described import (
    bucket_events,
    buckets,
    device_data,
    devices,
    keys,
    node_stats,
    oauth,
    people,
    primus,
    registrations,
)

ABOUT = About(
    "Weir: the query API",
    version("weir"),
    """Events come in at the gateway, a door with a description of its own; here they are asked for.

**Who is calling**: send `Authorization: Bearer` and an access token, or `X-Api-Key` and an API key. If
both are there, the token counts. `Bearer null` is no credential.

**Read your own writes**: send the gateway's `receipt` along as `X-Weir-Receipt`.

**Every answer** has an `X-Request-Id`. What is no call of this door is a 404, the wrong method a 405. A
body may come with `Content-Encoding: gzip`, `deflate` or `zstd`.""",
    {
        oauth.TAG: "Signing in and out. Refusals are `{msg}`, and a refused token is a 400, never a 401.",
        buckets.TAG: "Buckets and their plans. Refusals are `{msg}`; the database away is a 500.",
        people.TAG: "Members of a bucket, invitations, notifications. Refusals are `{msg}`.",
        keys.TAG: "API keys of a bucket, and of a user. Refusals are RFC 9457.",
        bucket_events.TAG: "Events of a bucket. Refusals are `{msg}`; the database away is a 500.",
        devices.TAG: "Times and counts of one device's events. Refusals are `{responseStatus, message}`.",
        device_data.TAG: "Events of a stream, by rules and filters over their data. Refusals are RFC 9457.",
        node_stats.TAG: "Uptime and latency of nodes. Refusals are `{success: false, message}`.",
        registrations.TAG: "Devices registered, nodes retired. Refusals are RFC 9457.",
        primus.TAG: "Events as they are accepted, over a WebSocket. Refusals are RFC 9457.",
        **fittings.TAGS,
    },
)
OPERATIONS = (
    *oauth.OPERATIONS,
    *buckets.OPERATIONS,
    *people.OPERATIONS,
    *keys.OPERATIONS,
    *bucket_events.OPERATIONS,
    *devices.OPERATIONS,
    *device_data.OPERATIONS,
    *node_stats.OPERATIONS,
    *registrations.OPERATIONS,
    *primus.OPERATIONS,
    *fittings.OPERATIONS,
    *fittings.BROWSER,
)
