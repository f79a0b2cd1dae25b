"""What a text may be, for every field of every door: pages, API, admin and seed. Pure: no Django, no I/O.

Letters of every script are welcome with what joins them; what cannot be seen, or what changes the order in which
something else is read, is not. A text is kept in Unicode's normal form C, with plain spaces and none at its ends, so
that two doors store the same value for the same input, and lengths are those of what is stored.
"""

import unicodedata
from dataclasses import dataclass

MOST_PARTS = 4  # code points that one code point of normal form C can be written with
VIRAMA = 9  # the combining class of signs after which a joiner decides on the shape, also at the end of a word
JOINERS = "\u200c\u200d"
# Format characters that people's keyboards write: word breaks of scripts without spaces, marks of direction.
FORMATS = frozenset("\u00ad\u061c\u200b\u200e\u200f\u2060")
# Format characters that are seen: signs in front of numbers, and those that put hieroglyphs together.
SIGNS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd") | {
    chr(point) for point in range(0x13430, 0x13440)
}
BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and symbols that show nothing
LINE_BREAKS = "\n"


class InvalidText(ValueError):
    """The text is not one of its field. The message never repeats it, because messages are logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The rule of a field: from `shortest` to `longest` characters, on one line unless it has `lines`."""

    shortest: int = 1
    longest: int
    lines: bool = False

    def clean(self, raw: str) -> str:
        """The text as it is stored; raises InvalidText. What it returns comes back unchanged."""
        text = raw.replace("\r\n", "\n") if self.lines else raw
        if len(text) <= MOST_PARTS * self.longest:  # bounds the work that a stranger can cause
            if any(unicodedata.category(character) == "Cs" for character in text):
                raise InvalidText("there is half of a character in it")
            spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text)
            text = unicodedata.normalize("NFC", spaced).strip(f" {LINE_BREAKS}" if self.lines else " ")
        if not self.shortest <= len(text) <= self.longest:
            raise InvalidText(f"expected {self.shortest}..{self.longest} characters, got {len(text)}")
        self._check(text)
        return text

    def _check(self, text: str) -> None:
        for position, character in enumerate(text):
            category = unicodedata.category(character)
            if self.lines and character in LINE_BREAKS:
                continue
            if category in ("Cc", "Zl", "Zp"):
                raise InvalidText("there is a control character in it")
            if category == "Cf" and not _may_stand(text, position):
                raise InvalidText("there is a character in it that cannot be seen or changes how others are read")
            if category == "Co" or (category == "Cn" and _is_no_character(character)):
                raise InvalidText("there is a character in it that means nothing to others")
        if text and not any(_is_seen(character) for character in text):
            raise InvalidText("there is nothing to be seen in it")


def storable(text: str) -> bool:
    """Whether every database takes the text, say as a question for what an older version has stored."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _may_stand(text: str, position: int) -> bool:
    character = text[position]
    if character not in JOINERS:
        return character in FORMATS or character in SIGNS
    before, after = text[position - 1 : position], text[position + 1 : position + 2]
    if not _can_be_joined(before):
        return False
    return _can_be_joined(after) or unicodedata.combining(before) == VIRAMA


def _can_be_joined(character: str) -> bool:
    """Letters and their marks; symbols too, because many pictures are made of several."""
    return bool(character) and unicodedata.category(character)[0] in "LMS"


def _is_seen(character: str) -> bool:
    return (unicodedata.category(character)[0] in "LNPS" and character not in BLANKS) or character in SIGNS


def _is_no_character(character: str) -> bool:
    """The code points that Unicode will never give a character; others may have one in a newer version than ours."""
    point = ord(character)
    return 0xFDD0 <= point <= 0xFDEF or point & 0xFFFE == 0xFFFE
