"""Buckets, under ``/api/bucket/``: the calls, in the form that the clients of that API expect.

``bodies`` (what the calls take, and what they answer), ``access`` (who is calling, for which bucket), then
the calls: ``metadata`` (the bucket itself), ``people`` (members, roles, invitations, ownership), ``plan``
(trial, upgrade, subscription, charges). docs/buckets.md lists every call with its statuses.
"""
