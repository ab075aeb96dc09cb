"""Tags: names of places in an event's data, dotted for nesting. Pure.

``size.width`` is the key ``width`` of the object ``size``; a step in double quotes, as in ``"a.b".c``, may
hold anything. The stream may stand in front (``events.size``): ``conditions.Tag.within`` takes it off.
"""

from __future__ import annotations

from collections.abc import Sequence

from lark import Lark, Token

from query.filters.conditions import MAX_STEPS, MAX_TAG, Tag
from query.filters.pointing import Refused, Unparsable, parse
from query.filters.scalars import STRING, position_of, text_of

_RULES = rf"""
start: step ("." step)*
step: BARE | STRING
BARE: /[^."]+/
STRING: {STRING}
"""
_WORDS = {"BARE": "a name", "STRING": "a name in double quotes", "DOT": '"."', "$END": "the end"}


_GRAMMAR = Lark(_RULES, parser="lalr", lexer="contextual")


def parse_tag(text: str, parameter: str) -> Tag:
    """A tag that is a parameter of its own, such as sort_by. Raises Unparsable."""
    try:
        return tag_in(text)
    except Refused as refused:
        raise Unparsable(parameter, text, refused.position, refused.expected) from None


def tag_in(text: str) -> Tag:
    """A tag that is the whole of ``text``. Raises Refused."""
    # Before anything else, since the grammar would read all of it first.
    if len(text) > MAX_TAG:
        raise Refused(MAX_TAG, f"a tag of at most {MAX_TAG} characters")
    tree = parse(_GRAMMAR, text, _WORDS)
    return tag_of([step.children[0] for step in tree.children])


def tag_of(steps: Sequence[Token]) -> Tag:
    """A tag from its steps, the tokens of a grammar. Raises Refused."""
    if len(steps) > MAX_STEPS:
        raise Refused(position_of(steps[MAX_STEPS]), f"at most {MAX_STEPS} names with dots between them")
    names = tuple(text_of(step) for step in steps)
    if sum(map(len, names)) > MAX_TAG:
        raise Refused(position_of(steps[0]), f"a tag of at most {MAX_TAG} characters")
    return Tag(names)
