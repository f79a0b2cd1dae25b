"""What a business rule refuses, in every context. Pure: no Django, no I/O."""

import re
from typing import ClassVar


class RuleError(Exception):
    """A business rule refused the command. Never retried. The docstring of the class is the message."""

    code: ClassVar[str] = "rule_error"  # the stable name of the rule for programs: the class name in snake_case

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, detail: str = "") -> None:
        message = " ".join((type(self).__doc__ or "").split())
        super().__init__(f"{message.removesuffix('.')}: {detail}." if detail else message)
