"""The settings that come from the environment: what each may be, its default and its meaning.

config/settings.py reads them by name. A value that cannot be ends the program with one line, before anything starts.
`python -m config.environment` prints docs/reference/settings.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Any, NoReturn

from config.forms import (
    ANYTHING,
    BROKER,
    DATABASE,
    HOSTS,
    KEYS,
    MAIL,
    NAMESPACE,
    NETWORKS,
    ORIGIN,
    ORIGINS,
    PATH,
    PORT,
    REDIS,
    YES_OR_NO,
    Form,
    list_of,
    number,
    one_of,
    or_empty,
    whole,
    written_as,
)

SHOWN_CHARACTERS = 80
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@dataclass(frozen=True, slots=True)
class Setting:
    """`default` and `embedded` (the default there, if it is another) are written as they would be in `.env`.

    Without a default (None), `otherwise` says what holds. The embedded profile does not read those for `services`.
    """

    name: str
    form: Form
    default: str | None
    meaning: str
    _: KW_ONLY
    embedded: str | None = None
    otherwise: str = "none"
    services: bool = False
    secret: bool = False


def refuse(line: str) -> NoReturn:
    """End this program, whichever it is, with one line and no traceback."""
    raise SystemExit(line)


def own_database(context: str) -> Setting:
    return Setting(
        f"{context.upper()}_DATABASE_URL",
        or_empty(DATABASE),
        "",
        f"a database of its own for {context}",
        services=True,
        secret=True,
    )


SETTINGS = (
    Setting(
        "PROFILE",
        one_of("embedded", "services"),
        None,
        "SQLite and one process, or PostgreSQL, RabbitMQ, Redis and a process for each role",
        otherwise="services if DATABASE_URL is set, else embedded",
    ),
    Setting("DEMO_DIR", PATH, None, "where the embedded profile keeps its data", otherwise="var/demo"),
    Setting("PORT", PORT, "8000", "the port of the web server on this machine"),
    Setting("DEBUG", YES_OR_NO, "0", "1 for development: plain HTTP, known logins, details of errors"),
    Setting(
        "SECRET_KEY",
        ANYTHING,
        None,
        "signs sessions; with DEBUG=0 a random one, of 50 characters or more",
        otherwise="embedded and development: a key of their own, kept in DEMO_DIR",
        secret=True,
    ),
    Setting(
        "SECRET_KEY_FALLBACKS",
        KEYS,
        "",
        "earlier secret keys, which no longer sign: what they signed is still good",
        secret=True,
    ),
    Setting(
        "API_TOKEN_KEYS",
        KEYS,
        "",
        "sign the API's tokens: the first does, the others are still good",
        otherwise="derived from SECRET_KEY",
        secret=True,
    ),
    Setting("ALLOWED_HOSTS", HOSTS, "localhost,127.0.0.1,[::1]", "the names by which the shop may be asked"),
    Setting("CSRF_TRUSTED_ORIGINS", ORIGINS, "", "other origins whose forms the shop accepts"),
    Setting(
        "HTTPS",
        YES_OR_NO,
        None,
        "redirect to HTTPS, and send cookies over HTTPS only",
        otherwise="1; embedded or with DEBUG=1: 0",
    ),
    Setting(
        "TRUSTED_PROXIES",
        NETWORKS,
        "",
        "proxies whose X-Forwarded-Proto and X-Forwarded-For are believed; anybody else may invent them",
        otherwise="none",
    ),
    Setting(
        "HEALTH_PORT",
        whole(0, 65535),
        "0",
        "a port of its own for /healthz, /readyz and /metrics, which never queue behind orders there; 0: none",
        services=True,
    ),
    Setting(
        "PROBE_NETWORKS",
        NETWORKS,
        "127.0.0.0/8,::1/128,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fc00::/7",
        "who gets the details of /readyz, and /metrics; everybody else gets the bare status",
    ),
    Setting("LOG_LEVEL", one_of(*LOG_LEVELS), "INFO", "what is logged at least", embedded="WARNING"),
    Setting(
        "PUBLIC_URL",
        or_empty(ORIGIN),
        "",
        "where customers find the shop, for links in mails",
        otherwise="http://localhost, with PORT",
    ),
    Setting(
        "EMAIL_URL",
        or_empty(MAIL),
        "",
        "the mail server; empty: mail is written to files (docker compose: to the log)",
        secret=True,
    ),
    Setting(
        "DEFAULT_FROM_EMAIL",
        written_as(
            r"[^\r\n<>]*<[^\s<>@]+@[^\s<>@]+>|[^\s<>@]+@[^\s<>@]+", "an address such as Shop <shop@example.com>"
        ),
        "Wharf <shop@localhost>",
        "the sender of the shop's mail",
    ),
    Setting(
        "ORDER_PAYMENT_TIMEOUT",
        whole(1, 30 * 24 * 3600),
        "1800",
        "seconds until an unpaid order is cancelled",
        embedded="120",
    ),
    Setting(
        "SANDBOX_SLOW_SECONDS",
        number(0, 60),
        "3",
        "seconds that the sandbox of the payment gateway takes for a slow payment",
    ),
    Setting(
        "DATABASE_URL",
        DATABASE,
        None,
        "PostgreSQL for everything that is not an order; its presence chooses the services profile",
        services=True,
        secret=True,
    ),
    Setting(
        "ORDER_SHARD_URLS",
        list_of(DATABASE, f"comma-separated: {DATABASE.may_be}; or empty"),
        "",
        "the databases of the orders, from orders_0 on",
        otherwise="databases beside the one of DATABASE_URL, named after it",
        services=True,
        secret=True,
    ),
    Setting(
        "ORDER_SHARDS",
        whole(1, 64),
        "8",
        "how many databases of orders there are, without ORDER_SHARD_URLS",
        services=True,
    ),
    *map(own_database, ("inventory", "coupons", "payments", "notifications")),
    Setting("DATABASE_POOL_SIZE", whole(1, 1000), "2", "connections that one process may hold to one database"),
    Setting(
        "DATABASE_READ_SECONDS",
        number(0.05, 60),
        "2",
        "seconds that a page waits for a database before it comes without it, and says so",
    ),
    Setting("CELERY_BROKER_URL", BROKER, "amqp://guest:guest@127.0.0.1:5672//", "RabbitMQ", services=True, secret=True),
    Setting(
        "REDIS_URL",
        or_empty(REDIS),
        "",
        "cache; without it, or when it is down, everything works, slower",
        services=True,
        secret=True,
    ),
    Setting(
        "TASK_SOFT_TIME_LIMIT",
        whole(1, 1500),
        "30",
        "seconds after which a worker hands back what is left of a batch (services profile)",
    ),
    Setting(
        "EVENTING_NAMESPACE",
        NAMESPACE,
        "",
        "a prefix for names on the broker and in the cache, for several shops on one",
    ),
    Setting(
        "EVENTING_SOURCE",
        written_as(r"[!-~]{1,200}", "a URI of at most 200 characters"),
        "urn:wharf",
        "who speaks in the CloudEvents for other programs",
    ),
    Setting(
        "EVENTING_POLL_SECONDS",
        number(0.001, 10),
        "0.02",
        "seconds between two looks of the relay into an outbox",
        embedded="0.015",
    ),
    Setting(
        "EVENTING_MAX_ATTEMPTS", whole(1, 1000), "12", "how often an event is tried before it becomes a dead letter"
    ),
    Setting(
        "EVENTING_INBOX_RETENTION_DAYS",
        whole(1, 3650),
        "30",
        "days for which it is known which events were handled; audits look back no further",
    ),
    Setting(
        "EVENTING_QUEUE_HIGH_WATER",
        whole(0, 1_000_000),
        "1000",
        "messages in a queue from which on its events wait in the outbox; 0: no limit",
    ),
    Setting(
        "EVENTING_MAX_LAG_SECONDS",
        number(0, 86_400),
        "30",
        "orders get 503 while events of their database wait for longer than this; 0: never (services profile)",
    ),
    Setting("WEB_WORKERS", whole(1, 256), "2", "processes of the web server", services=True),
    Setting("WEB_THREADS", whole(1, 256), "16", "requests that each of them answers at a time", services=True),
    Setting("WORKER_CONCURRENCY", whole(1, 256), "2", "processes of each worker", services=True),
)
COMPOSE = (
    Setting("POSTGRES_PASSWORD", ANYTHING, None, "of the user wharf of PostgreSQL; required", secret=True),
    Setting("RABBITMQ_PASSWORD", ANYTHING, None, "of the user wharf of RabbitMQ; required", secret=True),
    *(
        Setting(f"{service}_PORT", PORT, number, f"the port of {title} on this machine")
        for service, number, title in (
            ("POSTGRES", "5432", "PostgreSQL"),
            ("RABBITMQ", "5672", "RabbitMQ"),
            ("RABBITMQ_MANAGEMENT", "15672", "RabbitMQ's own pages"),
            ("REDIS", "6379", "Redis"),
        )
    ),
    Setting(
        "SEED_OPTIONS", ANYTHING, "--reference-data", "what the set-up fills the shop with: options of `manage.py seed`"
    ),
)
FOR_TESTS = (
    Setting(
        "TEST_RUN",
        written_as(r"[A-Za-z0-9_]{1,40}", "up to 40 letters, digits and _"),
        "run",
        "tells apart the databases of tests that run side by side",
    ),
)


class Environment:
    """The values of the declared settings. Every one that is there is checked at once, whoever will read it."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._declared = {setting.name: setting for setting in (*SETTINGS, *COMPOSE, *FOR_TESTS)}
        self._variables = variables
        self.profile = self.text("PROFILE", otherwise="services" if "DATABASE_URL" in variables else "embedded")
        for setting in self._declared.values():
            if setting.name in variables and (self.profile == "services" or not setting.services):
                self._value(setting.name)

    def text(self, name: str, *, otherwise: str | None = None) -> str:
        return str(self._value(name, otherwise))

    def own_database(self, context: str) -> str:
        """The URL of a context's own database, empty if it has none; a context need not be known here."""
        setting = own_database(context)
        self._declared.setdefault(setting.name, setting)
        return self.text(setting.name)

    def texts(self, name: str) -> list[str]:
        return list(self._value(name))

    def networks(self, name: str) -> list[IPv4Network | IPv6Network]:
        return list(self._value(name))

    def integer(self, name: str) -> int:
        return int(self._value(name))

    def number(self, name: str) -> float:
        return float(self._value(name))

    def boolean(self, name: str, *, otherwise: bool | None = None) -> bool:
        return bool(self._value(name, otherwise))

    def _value(self, name: str, otherwise: Any = None) -> Any:
        if name not in self._declared:
            raise LookupError(f"{name} is not declared in config/environment.py")
        setting = self._declared[name]
        text = self._variables.get(name)
        if text is None:
            default = setting.default
            if setting.embedded is not None and self.profile == "embedded":
                default = setting.embedded
            if default is None:
                if otherwise is None:
                    refuse(f"{name} is not set; it can be {setting.form.may_be}.")
                return otherwise
            text = default
        try:
            return setting.form.read(text)
        except ValueError:
            refuse(f"{name} is {_shown(setting, text)}; it can be {setting.form.may_be}.")


def port(text: str) -> int:
    """A port of the command line, or of PORT, for argparse."""
    return int(PORT.read(text))


def _shown(setting: Setting, text: str) -> str:
    """The value as a message may show it: in one line, cut, and of a secret one only what follows the password."""
    if setting.secret and text:
        kind, _, address = text.partition("://")
        text = f"{kind}://…{address[address.rindex('@') :] if '@' in address else ''}" if address else "…"
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…")


def page() -> Iterator[str]:
    """The lines of docs/reference/settings.md."""
    yield from (
        "# Settings",
        "",
        "Made by `python -m config.environment` from the declarations in",
        "[config/environment.py](../../config/environment.py). The same declarations are checked at every start:",
        "an invalid value ends the program with one line that names the setting, its value and what it can be.",
        "",
        "A setting comes from the command line, else the environment, else `.env`, else the default. The embedded",
        "profile does not read those that say (services).",
    )
    yield from _table("The shop", SETTINGS)
    yield from _table("`docker compose` and `script/services` only", COMPOSE)


def _table(title: str, settings: Iterable[Setting]) -> Iterator[str]:
    yield from ("", f"## {title}", "", "| setting | default | can be | meaning |", "|---|---|---|---|")
    for setting in settings:
        default = f"`{setting.default}`" if setting.default else setting.otherwise
        if setting.embedded is not None:
            default += f", embedded `{setting.embedded}`"
        name = f"`{setting.name}`" + (" (services)" if setting.services else "")
        yield f"| {name} | {default} | {setting.form.may_be} | {setting.meaning} |"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in page())
