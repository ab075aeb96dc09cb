"""What the dialects share: a body's forms, and reading it fast where it is clean and exactly where not.

The fast way decodes a whole body into msgspec structs in one call. Whatever it does not take whole
goes the exact way: entry by entry, each by msgspec again, and what that refuses by the pydantic model,
which is the contract and has the last word and the words for what is wrong. A test holds the two
equal: msgspec never takes what the model refuses, and both read the same values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from ingest.gateway.dialects.splitting import (
    check_elements,
    checked_lines,
    has_few,
    lenient_fields,
    leniently_split,
    strange_field,
)
from schema.errors import Invalid, UnsupportedEncoding
from schema.events import first_problem
from schema.settings import EventLimits

JSON = "application/json"
NDJSON = "application/x-ndjson"
# What msgspec raises for a text that it does not take: syntax, a field, UTF-8, nesting beyond Python's.
NOT_TAKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_NOTHING = msgspec.Raw(b"")
# Each field more is checked, and told, by the model: thousands of them in each of many events took seconds.
MAX_FIELDS = 100
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Rejection:
    """An entry that is not taken: its place in the request, and why. ``too_large``: for its bytes."""

    index: int
    error: str
    too_large: bool = False


@dataclass(slots=True)
class Batch(Generic[Entry]):
    """What a request brought.

    ``indexes``: the place of each entry in the request; None: 0, 1, 2 …
    ``doubtful``: the data may hold what cannot be stored, and has to be looked at.
    """

    entries: list[Entry]
    indexes: list[int] | None = None
    rejections: list[Rejection] = field(default_factory=list)
    doubtful: bool = False

    def index(self, position: int) -> int:
        """The place in the request of the entry at ``position``."""
        return position if self.indexes is None else self.indexes[position]


class Reader(Generic[Entry]):
    """Reads one kind of entry: ``struct`` the fast way, ``model`` the exact way.

    ``envelope``: the field of ``{"events": […]}`` or its like. ``raw_field``: the field that stays a JSON
    text, whatever it is.
    """

    def __init__(
        self,
        struct: type[Entry],
        model: type[BaseModel],
        envelope: str,
        raw_field: str | None,
    ) -> None:
        self._struct = struct
        self._model = model
        self._envelope = envelope
        self._envelope_start = b'{"%s"' % envelope.encode()
        self._raw_field = raw_field
        self._one = msgspec.json.Decoder(struct)
        self._many: msgspec.json.Decoder[list[Entry]] = msgspec.json.Decoder(
            list[struct]  # type: ignore[valid-type]
        )
        fields = [(envelope, list[struct])]  # type: ignore[valid-type]
        self._enveloped = msgspec.json.Decoder(
            msgspec.defstruct("Envelope", fields, forbid_unknown_fields=True)
        )
        # The array alone; nothing is made of what stands beside it.
        named = [(envelope, msgspec.Raw, _NOTHING)]
        self._beside = msgspec.json.Decoder(msgspec.defstruct("Beside", named))
        self._alone = msgspec.json.Decoder(msgspec.defstruct("Alone", named, forbid_unknown_fields=True))
        self._texts = msgspec.json.Decoder(list[msgspec.Raw])

    def read(self, body: bytes, media_type: str, limits: EventLimits) -> Batch[Entry]:
        """The entries of a body. Raises Invalid when it cannot be taken apart, UnsupportedEncoding."""
        # An escape may also stand for U+0000 in a label.
        clean = b"\\u0000" not in body
        match media_type:
            case "application/json":
                batch = self._read_json(body, limits, clean=clean)
            case "application/x-ndjson":
                batch = self._read_lines(body, limits, clean=clean)
            case other:
                raise UnsupportedEncoding(
                    f"Content-Type: {other[:60]!r} is not read here; send {JSON} or {NDJSON}"
                )
        # Whoever admits looks at the data alone, which is less than the body.
        batch.doubtful = True
        return batch

    def _read_json(self, body: bytes, limits: EventLimits, *, clean: bool) -> Batch[Entry]:
        if not _is_utf8(body):
            raise Invalid("body: not UTF-8; convert it")
        if len(body) > limits.max_event_bytes and not has_few(body):
            try:
                self._check_elements(body, limits)
            except NOT_TAKEN as error:
                return self._read_texts(self._lenient_texts(body, limits, error), limits)
        if clean:
            try:
                if len(body) <= limits.max_event_bytes or self._all_fit(body, limits.max_event_bytes):
                    return _counted(Batch(self._decode_whole(body)), limits)
            except NOT_TAKEN:
                pass
        return self._read_texts(self._json_texts(body, limits), limits)

    def _check_elements(self, body: bytes, limits: EventLimits) -> None:
        """Refuse a large body with too many elements. Raises Invalid, and what is in NOT_TAKEN."""
        if body.lstrip(b" \t\r\n").startswith(b"["):
            check_elements(body, limits.max_events)
            return
        array = getattr(self._beside.decode(body), self._envelope)
        if array is _NOTHING:
            # One entry, and too large: it is not decoded.
            return
        if len(body) - len(array) > limits.max_event_bytes:
            # Of a field that is there twice the last one counts, and the first would be decoded, too.
            raise self._not_alone()
        check_elements(array, limits.max_events)

    def _all_fit(self, body: bytes, max_event_bytes: int) -> bool:
        """Whether no entry of a large body is too large. Raises what is in NOT_TAKEN."""
        texts = body
        if body.startswith(b"{"):
            if not body.startswith(self._envelope_start):
                return False
            texts = getattr(self._beside.decode(body), self._envelope)
        return max(map(len, self._texts.decode(texts)), default=0) <= max_event_bytes

    def _decode_whole(self, body: bytes) -> list[Entry]:
        if body.startswith(b"{"):
            if body.startswith(self._envelope_start):
                entries: list[Entry] = getattr(self._enveloped.decode(body), self._envelope)
                return entries
            return [self._one.decode(body)]
        return self._many.decode(body)

    def _json_texts(self, body: bytes, limits: EventLimits) -> list[bytes]:
        try:
            if body.lstrip(b" \t\r\n").startswith(b"["):
                return [bytes(text) for text in self._texts.decode(body)]
            array = getattr(self._beside.decode(body), self._envelope)
            if array is _NOTHING:
                return [body]
            self._check_alone(body)
            return [bytes(text) for text in self._texts.decode(array)]
        except NOT_TAKEN as error:
            return self._lenient_texts(body, limits, error)

    def _check_alone(self, body: bytes) -> None:
        try:
            self._alone.decode(body)
        except msgspec.ValidationError:
            raise self._not_alone() from None

    def _not_alone(self) -> Invalid:
        return Invalid(f"body: beside {self._envelope!r} there may be no other field")

    def _lenient_texts(self, body: bytes, limits: EventLimits, error: Exception) -> list[bytes]:
        texts = leniently_split(body, self._envelope, limits.max_events, limits.max_event_bytes)
        if texts is not None:
            return texts
        if len(body) <= limits.max_event_bytes:
            fields = lenient_fields(body)
            if fields is not None and self._envelope not in fields and strange_field(body) is not None:
                # A single event, refused as one among many would be.
                return [body]
        forms = f"a JSON object, an array of them, or {{{self._envelope!r}: […]}}"
        raise Invalid(f"body: must be {forms} ({words(error)})") from None

    def _read_lines(self, body: bytes, limits: EventLimits, *, clean: bool) -> Batch[Entry]:
        body = checked_lines(body, limits.max_events)
        if clean and _is_utf8(body):
            try:
                most = limits.max_event_bytes
                if len(body) <= most or max(map(len, body.split(b"\n"))) <= most:
                    return _counted(Batch(self._one.decode_lines(body)), limits)
            except NOT_TAKEN:
                pass
        return self._read_texts([line for line in body.split(b"\n") if line.strip()], limits)

    def _read_texts(self, texts: list[bytes], limits: EventLimits) -> Batch[Entry]:
        return read_each(texts, self._read_text, limits)

    def _read_text(self, text: bytes) -> Entry:
        """One entry, the exact way. Raises Invalid with the field that is wrong."""
        check_utf8(text)
        if b"\\u0000" not in text:
            try:
                return self._one.decode(text)
            except NOT_TAKEN:
                pass
        return self.read_by_contract(text)

    def read_by_contract(self, text: bytes) -> Entry:
        """One entry as the pydantic model takes it. Raises Invalid with the field that is wrong."""
        try:
            fields = fields_of(text)
            raw = fields.pop(self._raw_field, None) if self._raw_field else None
            values: dict[str, Any] = {name: msgspec.json.decode(value) for name, value in fields.items()}
        except NOT_TAKEN as error:
            told = strange_field(text) or f"not a JSON object that can be read ({words(error)})"
            raise Invalid(told) from None
        try:
            taken = self._model.model_validate(values)
        except ValidationError as error:
            raise Invalid(first_problem(error)) from None
        kept = {name: getattr(taken, name) for name in values}
        if raw is not None and self._raw_field is not None:
            kept[self._raw_field] = raw
        return self._struct(**kept)


def fields_of(text: bytes) -> dict[str, msgspec.Raw]:
    """The fields of an object, their values as texts. Raises NOT_TAKEN; Invalid beyond MAX_FIELDS."""
    fields = _FIELDS.decode(text)
    if len(fields) > MAX_FIELDS:
        raise Invalid(f"more than {MAX_FIELDS} fields; put what is your own into data")
    return fields


def read_each(texts: Sequence[bytes], read: Callable[[bytes], Entry], limits: EventLimits) -> Batch[Entry]:
    """Each text by itself: what ``read`` refuses (Invalid) costs no other."""
    _check_count(len(texts), limits)
    batch: Batch[Entry] = Batch([], [])
    assert batch.indexes is not None
    for index, text in enumerate(texts):
        if len(text) > limits.max_event_bytes:
            batch.rejections.append(too_large(index, limits))
            continue
        try:
            batch.entries.append(read(text))
            batch.indexes.append(index)
        except Invalid as error:
            batch.rejections.append(Rejection(index, error.message))
    return batch


def too_large(index: int, limits: EventLimits) -> Rejection:
    """The refusal of an entry that is larger than one may be."""
    return Rejection(index, f"larger than {limits.max_event_bytes} bytes; split it", too_large=True)


def check_utf8(text: bytes) -> None:
    """Raises Invalid."""
    if not _is_utf8(text):
        raise Invalid("not UTF-8; convert it")


def _is_utf8(text: bytes) -> bool:
    # msgspec skips over raw texts without decoding them.
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _counted(batch: Batch[Entry], limits: EventLimits) -> Batch[Entry]:
    _check_count(len(batch.entries), limits)
    return batch


def _check_count(count: int, limits: EventLimits) -> None:
    if count > limits.max_events:
        raise Invalid(
            f"body: {count} entries, over the {limits.max_events} of one request; send several requests"
        )


def words(error: Exception) -> str:
    """What a reader says of a text that it does not take."""
    return "nested too deep" if isinstance(error, RecursionError) else str(error)
