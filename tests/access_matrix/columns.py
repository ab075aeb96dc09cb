"""The columns: kinds of callers. Those of one column get the same answer from every call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """``head``: as ``rights`` has it; ``callers``: names that ``tenants`` knows the credentials of."""

    head: str
    meaning: str
    callers: tuple[str, ...]


COLUMNS = (
    Column(
        "nobody",
        "no credential that stands",
        (
            "nothing",
            "Bearer null",
            "another scheme",
            "garbage token",
            "garbage key",
            "forged token",
            "forged key",
            "expired token",
            "revoked token",
            "token of an ended session",
            "revoked key",
            "revoked user's key",
            "token of a revoked key",
            "refresh token as a token",
            "key as a token",
            "token as a key",
        ),
    ),
    Column("outside", "a user who has nothing to do with the bucket", ("stranger", "former", "newcomer")),
    Column("member", "its workspace's member", ("member",)),
    Column("user", "the bucket's `user`", ("user",)),
    Column("wadmin", "its workspace's admin", ("wadmin",)),
    Column("wowner", "its workspace's owner", ("wowner",)),
    Column("admin", "the bucket's admin", ("admin",)),
    Column("owner", "the bucket's owner", ("owner",)),
    Column("root", "a superuser", ("root",)),
    Column("kI", "the bucket's key, `ingest`", ("ingest key",)),
    Column("kR", "the bucket's key, `read`", ("read key",)),
    Column("kA", "the bucket's key, `admin`", ("admin key",)),
    Column("tI", "an access token that came from an `ingest` key", ("ingest key's token",)),
    Column("tR", "an access token that came from a `read` key", ("read key's token",)),
    Column("tA", "an access token that came from an `admin` key", ("admin key's token",)),
    Column("kX", "another bucket's `admin` key", ("admin key of second", "admin key of elsewhere")),
    Column("oI", "the owner's own key, `ingest`", ("owner's ingest key",)),
    Column("oR", "the owner's own key, `read`", ("owner's read key",)),
    Column("oA", "the owner's own key, `admin`", ("owner's admin key",)),
    Column("uA", "own `admin` key of who only reads", ("user's admin key", "member's admin key")),
    Column("xA", "own `admin` key of an outsider", ("stranger's admin key", "former's admin key")),
    Column("rR", "a superuser's own key, `read`", ("root's read key",)),
    Column("rA", "a superuser's own key, `admin`", ("root's admin key",)),
)
CALLERS = tuple(caller for column in COLUMNS for caller in column.callers)
