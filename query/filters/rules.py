"""The entries of rule and xrule: a tag (it is there), or a tag, an equals sign and a value. Pure.

``size``, ``size.width = 3``, ``name = "a text"``, ``name = 'a text'``, ``ready = true``, ``size = null``.
``rule`` keeps the events that match all of its entries, ``xrule`` drops those that match any.
"""

from __future__ import annotations

from collections.abc import Sequence

from lark import Lark, Token, Tree

from query.filters.conditions import MAX_LEAVES, MAX_TEXT, Condition, Equals, Present
from query.filters.pointing import Refused, Unparsable, parse
from query.filters.scalars import NUMBER, STRING, scalar_of
from query.filters.tags import tag_of
from schema.errors import Invalid

_RULES = rf"""
start: tag ("=" value)?
tag: step ("." step)*
step: BARE | STRING
value: STRING | QUOTED | NUMBER | TRUE | FALSE | NULL
TRUE: "true"
FALSE: "false"
NULL: "null"
NUMBER: {NUMBER}
QUOTED: /'[^'\\\x00-\x1f]*'/
STRING: {STRING}
BARE: /[^\s."'=]+/
%ignore /[ \t\r\n]+/
"""
# A text in double quotes stands for a tag's name as well as for a value: the other words say it.
_WORDS = {
    "BARE": "a tag",
    "DOT": '"."',
    "EQUAL": '"="',
    "QUOTED": "a text in quotes",
    "NUMBER": "a number",
    "TRUE": "true",
    "FALSE": "false",
    "NULL": "null",
    "$END": "the end",
}


_GRAMMAR = Lark(_RULES, parser="lalr", lexer="contextual")


def parse_rules(entries: Sequence[str], parameter: str) -> list[Condition]:
    """One condition for each entry. Raises Invalid, naming ``parameter`` and the entry (from 0)."""
    if len(entries) > MAX_LEAVES:
        raise Invalid(f"{parameter}: {len(entries)} entries, at most {MAX_LEAVES}")
    return [_entry(text, f"{parameter}[{place}]") for place, text in enumerate(entries)]


def _entry(text: str, parameter: str) -> Condition:
    if len(text) > MAX_TEXT:
        raise Invalid(f"{parameter}: longer than {MAX_TEXT} characters")
    try:
        tree = parse(_GRAMMAR, text, _WORDS)
        tag = tag_of([_only(step) for step in tree.children[0].children])
        if len(tree.children) == 1:
            return Present(tag)
        return Equals(tag, scalar_of(_only(tree.children[1])))
    except Refused as refused:
        raise Unparsable(parameter, text, refused.position, refused.expected) from None


def _only(tree: Tree[Token]) -> Token:
    (token,) = tree.children
    assert isinstance(token, Token)
    return token
