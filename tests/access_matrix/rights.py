"""What each kind of caller gets where a right is asked for. By hand, from the contract's table of rights.

``ok``: the call's own answer. ``none``: the same, with nothing in it. A number: refused with that status.

A bucket's `user` reads. Its admin also updates it, manages members and keys, deletes events. Its owner also
destroys it, transfers it, changes its plan. A workspace's owner and admin count as admin of its buckets, a
member as user. A superuser may everything. Scopes: `ingest` writes, `read` reads, `admin` both and
delete_all; no key reaches members, plans or keys. A user's key may what its scope and its user's role both
allow. The gateway takes keys only.
"""

from __future__ import annotations

from tests.access_matrix.columns import COLUMNS

_TABLE = """
right     nobody outside member user wadmin wowner admin owner root  kI   kR   kA   tI   tR   tA   kX   oI   oR   oA   uA   xA   rR   rA
open      ok     ok      ok     ok   ok     ok     ok    ok    ok    ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok
person    401    ok      ok     ok   ok     ok     ok    ok    ok    403  403  403  403  403  403  403  403  403  403  403  403  403  403
connect   401    ok      ok     ok   ok     ok     ok    ok    ok    ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok   ok
list      401    ok      ok     ok   ok     ok     ok    ok    ok    403  ok   ok   403  ok   ok   ok   403  ok   ok   ok   ok   ok   ok
read      401    403     ok     ok   ok     ok     ok    ok    ok    403  ok   ok   403  ok   ok   403  403  ok   ok   ok   403  ok   ok
belong    401    403     ok     ok   ok     ok     ok    ok    ok    403  403  403  403  403  403  403  403  403  403  403  403  403  403
delete    401    403     403    403  ok     ok     ok    ok    ok    403  403  ok   403  403  ok   403  403  403  ok   403  403  403  ok
manage    401    403     403    403  ok     ok     ok    ok    ok    403  403  403  403  403  403  403  403  403  403  403  403  403  403
own       401    403     403    403  403    403    403   ok    ok    403  403  403  403  403  403  403  403  403  403  403  403  403  403
write     401    403     403    403  ok     ok     ok    ok    ok    ok   403  ok   ok   403  ok   403  ok   403  ok   403  403  403  ok
send      401    401     401    401  401    401    401   401   401   ok   403  ok   401  401  401  403  ok   403  ok   403  403  403  ok
journal   401    404     ok     ok   ok     ok     ok    ok    ok    404  ok   ok   404  ok   ok   404  404  ok   ok   ok   404  ok   ok
streams   401    none    ok     ok   ok     ok     ok    ok    ok    none ok   ok   none ok   ok   none none ok   ok   ok   none ok   ok
of-itself 401    403     403    ok   404    404    ok    ok    404   403  403  403  403  403  403  403  403  403  403  403  403  403  403
unnamed-r 401    400     400    400  400    400    400   400   400   403  ok   ok   403  ok   ok   ok   400  400  400  400  400  400  400
unnamed-s 401    401     401    401  401    401    401   401   401   ok   403  ok   401  401  401  ok   400  400  400  400  400  400  400
"""  # noqa: E501

MEANINGS = {
    "open": "anybody, whatever is sent along",
    "person": "a signed-in user, for what is his own",
    "connect": "whoever has a credential that stands; what he may follow is asked with each bucket",
    "list": "whoever may read anything, for what he may read",
    "read": "whoever reads the bucket",
    "belong": "people of the bucket: members, plan, what one leaves there",
    "delete": "whoever deletes its events",
    "manage": "whoever manages it: its description, members and keys",
    "own": "its owner",
    "write": "whoever writes to it, at the query API",
    "send": "whoever writes to it, at the gateway: keys only",
    "journal": "whoever reads the device's bucket; to others the device is unknown (404)",
    "streams": "whoever reads the device's bucket; to others its entry is empty",
    "of-itself": "a member of the bucket itself, for his own notifications; who manages it gets 404 for an "
    "address that is no member's",
    "unnamed-r": "read, with no bucket named: a bucket's key means its own, everybody else has to name one",
    "unnamed-s": "send, with no bucket named",
}


def _read() -> dict[str, dict[str, str]]:
    heads, *lines = [line.split() for line in _TABLE.strip().splitlines()]
    assert heads[1:] == [column.head for column in COLUMNS]
    table = {right: dict(zip(heads[1:], cells, strict=True)) for right, *cells in lines}
    assert set(table) == set(MEANINGS)
    return table


RIGHTS = _read()
