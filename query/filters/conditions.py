"""What rules, exclusions and filters become: conditions on an event's data. Pure.

A condition is true or false of an event, never unknown: of a tag that is not there only ``Not`` something is
true. Values are JSON scalars; numbers are decimals, so that none is rounded on its way to the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias

Scalar: TypeAlias = "str | Decimal | bool | None"

# Bounds on what one request may ask; each is far beyond what a person writes, and far below what hurts.
MAX_TEXT = 16_384
MAX_DEPTH = 16
MAX_LEAVES = 100
MAX_VALUES = 100
MAX_VALUE = 1_000
MAX_TAG = 250
MAX_STEPS = 16


@dataclass(frozen=True, slots=True)
class Tag:
    """A place in an event's data: keys from the outside in; in an array a number is an index."""

    steps: tuple[str, ...]

    def within(self, stream: str) -> Tag:
        """The tag without the stream in front: so it reads when the stream's name is followed by something.

        A key that has the stream's own name is reached with the stream in front of it.
        """
        front = tuple(stream.split("."))
        if len(self.steps) > len(front) and self.steps[: len(front)] == front:
            return Tag(self.steps[len(front) :])
        return self


@dataclass(frozen=True, slots=True)
class Present:
    """The tag is there, be it null."""

    tag: Tag


@dataclass(frozen=True, slots=True)
class Equals:
    """The same type and the same value; numbers by value (1 is 1.0), texts by code points."""

    tag: Tag
    value: Scalar


@dataclass(frozen=True, slots=True)
class OneOf:
    """Equal to one of the values."""

    tag: Tag
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """A text with this text in it, or an array with an element equal to the value."""

    tag: Tag
    value: Scalar


@dataclass(frozen=True, slots=True)
class ContainsAnyCase:
    """A text with this text in it, or an array with a text equal to it, upper and lower case alike."""

    tag: Tag
    value: str


@dataclass(frozen=True, slots=True)
class StartsWith:
    """A text that begins with this one."""

    tag: Tag
    value: str


@dataclass(frozen=True, slots=True)
class EndsWith:
    """A text that ends with this one."""

    tag: Tag
    value: str


class Order(StrEnum):
    """How a value lies to another."""

    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="


@dataclass(frozen=True, slots=True)
class Lies:
    """A number to a number by value, a text to a text by code points; other types lie nowhere."""

    tag: Tag
    order: Order
    value: str | Decimal


@dataclass(frozen=True, slots=True)
class Not:
    """The condition is false."""

    part: Condition


@dataclass(frozen=True, slots=True)
class Every:
    """All parts are true; there may be none."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part is true."""

    parts: tuple[Condition, ...]


Leaf: TypeAlias = "Present | Equals | OneOf | Contains | ContainsAnyCase | StartsWith | EndsWith | Lies"
Condition: TypeAlias = "Leaf | Not | Every | Some"

ALWAYS = Every(())


def leaves(condition: Condition) -> int:
    """How many leaves a condition has."""
    match condition:
        case Not(part):
            return leaves(part)
        case Every(parts) | Some(parts):
            return sum(leaves(part) for part in parts)
        case _:
            return 1


def depth(condition: Condition) -> int:
    """How many groups stand inside one another; a leaf: 0."""
    match condition:
        case Not(part):
            return 1 + depth(part)
        case Every(parts) | Some(parts):
            return 1 + max((depth(part) for part in parts), default=0)
        case _:
            return 0


def of_stream(condition: Condition, stream: str) -> Condition:
    """The condition with every tag's stream taken off."""
    match condition:
        case Not(part):
            return Not(of_stream(part, stream))
        case Every(parts):
            return Every(tuple(of_stream(part, stream) for part in parts))
        case Some(parts):
            return Some(tuple(of_stream(part, stream) for part in parts))
        case _:
            return replace(condition, tag=condition.tag.within(stream))


def all_of(parts: Iterable[Condition]) -> Condition:
    """The conjunction; of one part: that part."""
    kept = tuple(part for part in parts if part != ALWAYS)
    return kept[0] if len(kept) == 1 else Every(kept)
