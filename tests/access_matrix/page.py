"""The matrix to read: Markdown, for ``docs/access.md`` and for a terminal."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from tests.access_matrix.attempts import ATTEMPTS
from tests.access_matrix.calls import CALLS, Call
from tests.access_matrix.columns import COLUMNS
from tests.access_matrix.rights import MEANINGS, RIGHTS

PAGE = Path(__file__).parents[2] / "docs" / "access.md"
_INTRODUCTION = """# Who gets which answer

Every route of both doors, every kind of caller, and the status that is answered.
`python -m tests.access_matrix` prints this page. The table is data, written by hand from the rights in
[accounts.md](accounts.md); `tests/integration/access/test_matrix.py` makes each call of it through real
sockets. A route without a row fails the suite, and so does a row without a route.

What is refused changes nothing in the database. `none`: the answer is there, with nothing in it. The gateway
takes no access token, and an agent shows its bucket's pair of ids instead of a key.
"""
_IDENTIFIERS = """
## Identifiers of others

`tests/integration/access/test_identifiers.py` sends identifiers of another tenant in every parameter that
takes one. Of that tenant nothing may change, and nothing may show. A bucket's id in a path is a 403 when it
is another's and a 404 when it is nobody's, at every call that has one. All the rest:

| door | call | parameter | another's | nobody's | told apart |
|---|---|---|---|---|---|"""


def cells(call: Call) -> dict[str, str]:
    """What each kind of caller gets from a call, by the head of its column."""
    return {head: str(call.status) if cell == "ok" else cell for head, cell in RIGHTS[call.right].items()}


def page() -> str:
    """The whole page."""
    lines = [_INTRODUCTION, "| | who calls | in how many ways |", "|---|---|---|"]
    lines += [f"| `{one.head}` | {one.meaning} | {len(one.callers)} |" for one in COLUMNS]
    heads = [f"`{column.head}`" for column in COLUMNS]
    for right, found in groupby(sorted(CALLS, key=_order), key=lambda call: call.right):
        calls = list(found)
        lines += ["", f"## {right}", "", f"{MEANINGS[right][0].upper()}{MEANINGS[right][1:]}.", ""]
        lines += [f"| door | call | refusals | {' | '.join(heads)} |"]
        lines += ["|---|---|---|" + "---|" * len(heads)]
        for call in calls:
            shown = f"`{call.method} {call.path}`" + (f" {call.case}" if call.case else "")
            lines.append(
                f"| {call.door} | {shown} | {call.form.value} | {' | '.join(cells(call).values())} |"
            )
    lines += _identifiers()
    return "\n".join(lines) + "\n"


def _identifiers() -> list[str]:
    lines = [_IDENTIFIERS]
    rows: dict[str, None] = {}
    for one in ATTEMPTS:
        theirs, nobodys = one.status
        told = "no" if one.alike else "yes" if theirs != nobodys else "as documented"
        where = f"{one.door} | `{one.method} {one.path}` | `{one.parameter}`"
        rows[f"| {where} | {one.theirs.replace('_', ' ')} {theirs} | {nobodys} | {told} |"] = None
    return [*lines, *rows]


def _order(call: Call) -> int:
    return list(RIGHTS).index(call.right)
