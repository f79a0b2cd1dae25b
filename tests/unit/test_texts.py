"""What a text may be: letters of every script with what joins them, and nothing that cannot be seen or turns others."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.domain import ADDRESS
from values.countries import COUNTRIES
from values.text import InvalidText, Text

pytestmark = pytest.mark.once

NAME = Text(longest=100)

# What is typed, and what is stored.
GOOD = {
    "Ann Lee": "Ann Lee",
    "  Ann Lee  ": "Ann Lee",
    "ශ්‍රී ලංකා": "ශ්‍රී ලංකා",
    "نرگس‌خاتون": "نرگس‌خاتون",
    "അവന്‍": "അവന്‍",  # a joiner at the end of a word
    "ភ្នំ\u200bពេញ": "ភ្នំ\u200bពេញ",
    "רחוב 5\u200f": "רחוב 5\u200f",
    "e\u0301toile": "étoile",
    "\u1112\u1161\u11ab": "한",
    "葛\U000e0100飾区": "葛\U000e0100飾区",
    "山田\u3000太郎": "山田 太郎",
    "Rue\u00a05": "Rue 5",
    "12\u202f%": "12 %",
    "👩\u200d💻 \u2764\ufe0f\u200d🔥": "👩\u200d💻 \u2764\ufe0f\u200d🔥",
    "𝒜" * 100: "𝒜" * 100,
    "e\u0301" * 100: "é" * 100,
    "O'Brien-Ødegård, c/o №5": "O'Brien-Ødegård, c/o №5",
}
BAD = {
    "nothing": "",
    "spaces": " \u00a0\u3000",
    "too long": "x" * 101,
    "too long after all": "e\u0301" * 101,
    "NUL": "A\x00B",
    "bell": "A\x07B",
    "C1": "A\u0085B",
    "tab": "A\tB",
    "line break": "A\nB",
    "line separator": "A\u2028B",
    "override": "A\u202eB",
    "embedding": "A\u202aB",
    "isolate": "A\u2066B\u2069",
    "deprecated format": "A\u206aB",
    "tag": "A\U000e0041B",
    "byte order mark": "\ufeffA",
    "joiners only": "\u200d\u200c",
    "zero width spaces only": "\u200b\u200b",
    "a joiner in front": "\u200dA",
    "a joiner at the end": "A\u200d",
    "a joiner beside a space": "A \u200dB",
    "two joiners": "A\u200d\u200dB",
    "fillers": "\u3164\u115f\uffa0",
    "blank braille": "\u2800",
    "selectors only": "\ufe0f\ufe0f",
    "marks only": "\u0301\u0301",
    "half a character": "A\ud800B",
    "private use": "A\ue000B",
    "no character": "A\uffffB",
}


@pytest.mark.parametrize("typed", GOOD)
def test_text_of_any_script_is_kept_in_one_form(typed: str) -> None:
    assert NAME.clean(typed) == GOOD[typed]


@pytest.mark.parametrize("typed", BAD.values(), ids=BAD)
def test_text_that_nobody_can_see_or_that_turns_others_is_refused_without_repeating_it(typed: str) -> None:
    with pytest.raises(InvalidText) as refusal:
        NAME.clean(typed)
    assert typed == "" or typed not in str(refusal.value)


def test_text_of_several_lines_is_one_where_its_field_has_lines() -> None:
    assert Text(longest=20, lines=True).clean("one\r\ntwo\n") == "one\ntwo"


@given(st.text(st.characters(), max_size=120))
def test_what_a_rule_returns_it_takes_and_returns_again(typed: str) -> None:
    try:
        stored = NAME.clean(typed)
    except InvalidText:
        return
    assert NAME.clean(stored) == stored
    assert unicodedata.is_normalized("NFC", stored)
    assert 1 <= len(stored) <= 100


def test_countries_are_codes_of_iso_3166() -> None:
    assert len(COUNTRIES) == 248
    assert {"DE", "GB", "IR", "LK", "TW", "US"} <= COUNTRIES.keys()
    assert not {"ZZ", "UK", "KP", "XK", "EU"} & COUNTRIES.keys()


def test_every_field_of_an_address_has_a_rule() -> None:
    assert {field: (rule.shortest, rule.longest) for field, rule in ADDRESS.items()} == {
        "name": (1, 100),
        "street": (1, 200),
        "postal_code": (0, 20),
        "city": (1, 100),
    }
