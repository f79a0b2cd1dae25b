"""What the value of a setting may be: each form in words, and how a text of it is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any
from urllib.parse import SplitResult, urlsplit

YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
PORTS = range(1, 65536)
NAME_BYTES = 63  # PostgreSQL cuts what is longer, and two databases would be one
ENCODED = "; special characters of the password are percent-encoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a value may be, in words, and how it is read; `read` raises ValueError."""

    may_be: str
    read: Callable[[str], Any]


def whole(low: int, high: int) -> Form:
    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(text)
        return int(text)

    return Form(may_be=f"a whole number from {low} to {high}", read=read)


def number(low: float, high: float) -> Form:
    def read(text: str) -> float:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", text) or not low <= float(text) <= high:
            raise ValueError(text)
        return float(text)

    return Form(may_be=f"a number from {low:g} to {high:g}", read=read)


def one_of(*choices: str) -> Form:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return Form(may_be=" or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]])), read=read)


def written_as(pattern: str, may_be: str) -> Form:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return text

    return Form(may_be=may_be, read=read)


def list_of(form: Form, may_be: str) -> Form:
    def read(text: str) -> list[Any]:
        return [form.read(item) for item in text.split(",")] if text else []

    return Form(may_be=may_be, read=read)


def at_least_one(form: Form) -> Form:
    def read(text: str) -> list[Any]:
        if not (items := form.read(text)):
            raise ValueError(text)
        return list(items)

    return Form(may_be=form.may_be, read=read)


def or_empty(form: Form) -> Form:
    return Form(may_be=f"{form.may_be}; or empty", read=lambda text: form.read(text) if text else "")


def _yes_or_no(text: str) -> bool:
    if text.lower() not in YES + NO:
        raise ValueError(text)
    return text.lower() in YES


def _parts(text: str, *schemes: str) -> SplitResult:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("not a URL")
    parts = urlsplit(text)
    if parts.scheme not in schemes or parts.fragment or (parts.port is not None and parts.port not in PORTS):
        raise ValueError("another kind of URL")
    return parts


def _database_url(text: str) -> str:
    name = _parts(text, "postgres", "postgresql").path.removeprefix("/")
    if not name or "/" in name or len(name) > NAME_BYTES:
        raise ValueError("no name of a database")
    return text


def _broker_url(text: str) -> str:
    for url in text.split(";"):  # several nodes of one broker
        if not _parts(url, "amqp", "amqps", "pyamqp").hostname:
            raise ValueError("no host")
    return text


def _redis_url(text: str) -> str:
    parts = _parts(text, "redis", "rediss", "unix")
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise ValueError("no host")
    return text


def _mail_url(text: str) -> str:
    smtp = ("smtp", "smtps", "smtp+tls", "smtp+ssl")
    parts = _parts(text, *smtp, "consolemail", "filemail", "memorymail", "dummymail")
    if (parts.scheme in smtp and not parts.hostname) or (parts.scheme == "filemail" and len(parts.path) < 2):
        raise ValueError("no host or folder")
    return text


YES_OR_NO = Form(may_be="1, true, yes, on or 0, false, no, off", read=_yes_or_no)
ANYTHING = written_as(r".*", "a text")
KEYS = list_of(written_as(r"[!-+\--~]+", ""), "keys of printable ASCII characters, comma-separated; or empty")
PATH = written_as(r"[^\0\r\n]+", "the path of a folder")
PORT = whole(PORTS[0], PORTS[-1])
HOSTS = at_least_one(
    list_of(
        written_as(r"\*|\.?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\]", ""),
        "names of hosts, comma-separated; .example.com is that and all below it, * is any",
    )
)
ORIGINS = list_of(
    written_as(r"https?://(\*\.)?([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", ""),
    "origins such as https://shop.example.com, comma-separated; or empty",
)
ORIGIN = written_as(
    r"https?://([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", "an origin such as https://shop.example.com"
)
NETWORKS = list_of(
    Form(may_be="", read=ip_network),
    "networks such as 10.0.0.0/8 or fc00::/7, or single addresses, comma-separated; or empty",
)
DATABASE = Form(
    may_be=f"postgres://USER:PASSWORD@HOST:PORT/DATABASE with a name of at most {NAME_BYTES} characters{ENCODED}",
    read=_database_url,
)
BROKER = Form(may_be=f"amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…{ENCODED}", read=_broker_url)
REDIS = Form(may_be=f"redis://HOST:PORT/NUMBER, rediss://… or unix://PATH{ENCODED}", read=_redis_url)
MAIL = Form(
    may_be=f"smtp://USER:PASSWORD@HOST:PORT, smtp+tls://…, smtp+ssl://… or consolemail://{ENCODED}", read=_mail_url
)
NAMESPACE = written_as(r"[A-Za-z0-9_-]{0,60}", "up to 60 letters, digits, _ and -; or empty")
