"""What makes two account names one. Pure: no Django, no I/O."""

import unicodedata


def account_name(typed: str) -> str:
    """The name as it is stored and looked for: capitals and the way of writing a letter make no other name."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", typed).casefold())
