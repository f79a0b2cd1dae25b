"""Order numbers: what is packed into them, and what people may type."""

import re
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sharding.numbers import (
    BUCKETS,
    EPOCH,
    HIGHEST,
    InvalidOrderNumber,
    bucket_of,
    bucket_of_customer,
    bucket_range,
    new_order_id,
    parse,
    placed_at,
    placed_ms,
    to_text,
)

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LAST_MOMENT = EPOCH + timedelta(milliseconds=(1 << 41) - 1)

order_ids = st.integers(min_value=1, max_value=HIGHEST)
customers = st.integers(min_value=0, max_value=HIGHEST)
times = st.integers(min_value=1, max_value=(1 << 41) - 1).map(lambda ms: EPOCH + timedelta(milliseconds=ms))


@given(order_ids)
@example(1)
@example(HIGHEST)
def test_number_survives_its_text_form(order_id: int) -> None:
    text = to_text(order_id)
    assert len(text) == 13
    assert set(text) <= set(ALPHABET)
    assert parse(text) == order_id


@given(customers, times)
@example(127, LAST_MOMENT)
@example(0, EPOCH + timedelta(milliseconds=1))
def test_number_says_where_the_order_lives_and_when_it_was_placed(customer_id: int, at: datetime) -> None:
    order_id = new_order_id(customer_id, at)
    assert 0 < order_id <= HIGHEST
    assert bucket_of(order_id) == bucket_of_customer(customer_id) == customer_id % BUCKETS
    assert placed_at(order_id) == at
    assert placed_ms(order_id) == (at - EPOCH) // timedelta(milliseconds=1)


@given(st.integers(min_value=0, max_value=BUCKETS - 1), times, times)
def test_numbers_of_a_bucket_sort_by_time(bucket: int, one: datetime, other: datetime) -> None:
    earlier, later = sorted((one, other))
    first, second = new_order_id(bucket, earlier), new_order_id(bucket + BUCKETS, later)
    assert earlier == later or first < second
    assert earlier == later or to_text(first) < to_text(second)


@given(customers, times)
def test_number_lies_in_the_range_of_its_bucket(customer_id: int, at: datetime) -> None:
    order_id = new_order_id(customer_id, at)
    low, high = bucket_range(bucket_of_customer(customer_id))
    assert low <= order_id < high


def test_ranges_of_the_buckets_cover_all_numbers_without_overlap() -> None:
    ranges = [bucket_range(bucket) for bucket in range(BUCKETS)]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == HIGHEST + 1
    assert all(high == low for (_, high), (low, _) in pairwise(ranges))


def test_numbers_of_one_moment_are_spread_over_the_whole_sequence() -> None:
    at = datetime(2026, 7, 1, tzinfo=UTC)
    sequences = {new_order_id(7, at) & 0x7FFF for _ in range(2_000)}
    assert len(sequences) > 1_800  # 1,940 are expected
    assert len({sequence >> 10 for sequence in sequences}) == 32


@given(order_ids, st.data())
def test_reading_forgives_what_people_do_to_a_number(order_id: int, data: st.DataObject) -> None:
    spellings = {"1": "1IiLl", "0": "0Oo"}
    typed = "".join(
        data.draw(st.sampled_from(["", "-", " "]))
        + data.draw(st.sampled_from(spellings.get(character, character + character.lower())))
        for character in to_text(order_id)
    )
    assert parse(typed) == order_id


@given(st.text(max_size=20) | st.text(alphabet=ALPHABET + "iIlLoOuU- ", min_size=12, max_size=16))
def test_text_is_refused_or_is_a_number(text: str) -> None:
    try:
        order_id = parse(text)
    except InvalidOrderNumber:
        return
    assert 0 < order_id <= HIGHEST
    assert len(text.replace("-", "").replace(" ", "")) == 13


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "-1",
        "0000000000000",  # zero is no order
        "ZZZZZZZZZZZZZ",  # 65 bits
        "8000000000000",  # 2**63
        "U000000000001",  # not in the alphabet
        "000000000000\u0131",  # upper() makes an I of it
        "00000000000\u0660\u0661",  # digits of another script
        "0000000000001\n",
        "1" * 10_000,
    ],
)
def test_garbage_is_refused_with_a_short_message_that_shows_it(text: str) -> None:
    with pytest.raises(InvalidOrderNumber, match=re.escape(repr(text[:40]))) as refused:
        parse(text)
    assert "is not an order number" in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("order_id", [0, -1, HIGHEST + 1])
def test_what_is_not_a_63_bit_number_has_no_bucket_and_no_text(order_id: int) -> None:
    for function in (bucket_of, to_text, placed_ms):
        with pytest.raises(InvalidOrderNumber, match=str(order_id)):
            function(order_id)


@pytest.mark.parametrize(
    "at",
    [
        EPOCH,
        EPOCH - timedelta(days=1),
        LAST_MOMENT + timedelta(milliseconds=1),
        datetime(2026, 7, 1, tzinfo=UTC).replace(tzinfo=None),  # no time zone
    ],
)
def test_time_that_does_not_fit_is_refused(at: datetime) -> None:
    with pytest.raises(ValueError, match=str(at.year)):
        new_order_id(1, at)


def test_time_counts_the_same_in_every_time_zone() -> None:
    at = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert placed_at(new_order_id(1, at)) == datetime(2026, 7, 1, 6, 30, tzinfo=UTC)


def test_negative_customer_and_unknown_bucket_are_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        bucket_of_customer(-1)
    for bucket in (-1, BUCKETS):
        with pytest.raises(ValueError, match=str(bucket)):
            bucket_range(bucket)
