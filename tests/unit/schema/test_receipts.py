"""Receipts go out and come back as they were, and nothing else is taken for one."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.errors import Invalid
from schema.receipts import decode_receipt, encode_receipt

positions = st.dictionaries(
    st.integers(0, 1023), st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1)), max_size=40
)


@given(positions)
def test_a_receipt_comes_back_as_it_was(told: dict[int, tuple[int, int]]) -> None:
    text = encode_receipt(told)
    assert decode_receipt(text) == told
    assert text.isascii()
    assert not set(text) & set("+/= \n")


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_a_receipt_or_invalid(text: str) -> None:
    with suppress(Invalid):
        assert decode_receipt(encode_receipt(decode_receipt(text))) == decode_receipt(text)


@pytest.mark.parametrize("text", ["", "AgAAAAAAAA", "AQA", "ä", "A" * 100_000])
def test_what_is_no_receipt_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="not a receipt"):
        decode_receipt(text)


def test_the_layout_of_a_receipt_stays() -> None:
    assert encode_receipt({3: (1, 10)}) == "AQADAAAAAQAAAAAAAAAK"
