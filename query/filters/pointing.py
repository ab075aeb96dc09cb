"""Refusals that point: which parameter, which character, what was expected there, what was found. Pure.

A grammar's own errors speak of its terminals; here they get the words that a caller knows. Characters are
counted from 1, in the text as it was sent (a filter sent as an object: in its compact JSON text).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lark import Lark, UnexpectedInput, UnexpectedToken

from schema.errors import Invalid

_SHOWN_CHARACTERS = 24


class Unparsable(Invalid):
    """A text that does not follow its grammar, or goes beyond a bound, at one character.

    ``position``: from 0. ``members``: parameter, character (from 1) and what was expected, for the body of
    the answer.
    """

    def __init__(self, parameter: str, text: str, position: int, expected: Sequence[str]) -> None:
        self.position = min(max(position, 0), len(text))
        self.expected = list(expected)
        found = text[self.position : self.position + _SHOWN_CHARACTERS]
        *some, last = self.expected
        wanted = f"{', '.join(some)} or {last}" if some else last
        super().__init__(
            f"{parameter}: at character {self.position + 1}: expected {wanted}, "
            f"found {ascii(found) if found else 'the end'}"
        )
        self.members: Mapping[str, Any] = {
            "parameter": parameter,
            "character": self.position + 1,
            "expected": self.expected,
        }


class Refused(Exception):
    """The same, before it is known of which parameter; never leaves this package."""

    def __init__(self, position: int, *expected: str) -> None:
        super().__init__(position, *expected)
        self.position = position
        self.expected = expected

    def within(self, start: int, *, exact: bool = True) -> Refused:
        """As it is to a text that this one begins in at ``start``; not exact: it was written with escapes."""
        return Refused(start + (self.position if exact else 0), *self.expected)


def parse(grammar: Lark, text: str, words: Mapping[str, str]) -> Any:
    """What ``grammar`` makes of ``text``. ``words``: terminal → what to call it. Raises Refused."""
    try:
        return grammar.parse(text)
    except UnexpectedInput as error:
        position = _position(error, text)
    # The error itself names too many or too few: ask for what the text up to there could go on with.
    begun = grammar.parse_interactive(text[:position])
    begun.exhaust_lexer()
    allowed = begun.accepts()  # type: ignore[no-untyped-call]
    raise Refused(position, *(word for terminal, word in words.items() if terminal in allowed))


def _position(error: UnexpectedInput, text: str) -> int:
    at_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    # Its declared type says that there never is a position.
    found: Any = error
    return len(text) if at_end else int(found.pos_in_stream)
