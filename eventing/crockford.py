"""Crockford's base 32: integers as 13 characters that people can read aloud and type back.

Source: Douglas Crockford, "Base 32". The alphabet leaves out I, L, O and U; reading maps I and L to 1 and O to 0.
"""

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
WIDTH = 13  # 13 * 5 bits hold a positive 63-bit integer

_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]  # every two characters, by their 10 bits
_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_VALUES |= {"I": 1, "L": 1, "O": 0}


def encode(number: int) -> str:
    """The 13 characters of a number in 0..2**63-1; raises ValueError outside that range."""
    if not 0 <= number < 1 << 63:
        raise ValueError(f"{number} is not in 0..2**63-1")
    # Each event that is handled needs several of these, so they are made of pairs.
    pairs = _PAIRS
    return (
        ALPHABET[number >> 60]
        + pairs[number >> 50 & 1023]
        + pairs[number >> 40 & 1023]
        + pairs[number >> 30 & 1023]
        + pairs[number >> 20 & 1023]
        + pairs[number >> 10 & 1023]
        + pairs[number & 1023]
    )


def decode(text: str) -> int:
    """The number of a text; case, spaces and dashes do not matter. Raises ValueError if it is not one."""
    number, length = decode_part(text)
    if length != WIDTH:
        raise ValueError(f"expected {WIDTH} characters of base 32, got {length}")
    if number >= 1 << 63:
        raise ValueError("the number is larger than 63 bits")
    return number


def decode_part(text: str) -> tuple[int, int]:
    """The value of some of the characters of a number, and how many they are. Raises ValueError for others."""
    cleaned = text.replace("-", "").replace(" ", "").upper()
    value = 0
    for character in cleaned:
        if character not in _VALUES:
            raise ValueError(f"{character!r} is not a character of base 32")
        value = value * 32 + _VALUES[character]
    return value, len(cleaned)
