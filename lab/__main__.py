"""`script/lab COMMAND`: everything that measures a shop, loads it or breaks it."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from importlib import import_module

from lab.harness import ROOT

COMMANDS = {
    "bench": ("lab.bench.command", "how fast the shop is, beside what the machine does at best"),
    "capacity": ("lab.bench.capacity", "what an order costs, by process and by size of the shop"),
    "latency": ("lab.bench.latency", "how long an order takes from placed to confirmed at low load"),
    "deadlines": ("lab.bench.deadlines", "how punctually many orders that become due together are cancelled"),
    "shards": ("lab.bench.shards", "what a million orders on eight databases cost, and moving a bucket"),
    "reading": ("lab.bench.reading", "how fast orders are read in the databases that the environment names"),
    "moves": ("lab.bench.moves", "what customers notice of buckets that move"),
    "load": ("lab.load.command", "many customers at once; then the audit, a verdict and a report"),
    "faults": ("lab.faults.command", "things break under a shop while customers order"),
    "races": ("lab.races", "both sides of each race for an order, many times"),
    "stack": ("lab.harness.stack", "runs the services profile with local processes"),
    "services": ("lab.harness.services", "PostgreSQL, RabbitMQ and Redis for tests and local runs"),
}
OF_THE_ENVIRONMENT = ("races", "reading")  # these work in the shop that the environment names
WITHOUT_DJANGO = ("stack", "services")


def main(arguments: Sequence[str]) -> int:
    name, *rest = arguments or ["--help"]
    if name not in COMMANDS:
        print("script/lab: measures a shop, loads it and breaks it\n\n  script/lab COMMAND [--help]\n")
        for command, (_, summary) in COMMANDS.items():
            print(f"  {command:<11}{summary}")
        return 0 if name in ("-h", "--help") else 2
    if name not in WITHOUT_DJANGO:
        set_up_django(embedded=name not in OF_THE_ENVIRONMENT or "-h" in rest or "--help" in rest)
    code: int = import_module(COMMANDS[name][0]).main(rest)
    return code


def set_up_django(*, embedded: bool) -> None:
    """Let functions be named that run in processes of shops. With `embedded` no other settings are needed for that."""
    given = dict(os.environ)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ.setdefault("SECRET_KEY", secrets.token_urlsafe(50))
    if embedded:
        os.environ |= {"PROFILE": "embedded", "DEMO_DIR": str(ROOT / "var" / "lab")}
    import django

    django.setup()
    if embedded:
        os.environ.clear()
        os.environ.update(given)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
