"""Faults of buckets on their way to another database."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from selectors import EVENT_READ, DefaultSelector
from subprocess import PIPE
from typing import IO, cast

from lab.faults.lab import Lab
from lab.faults.ledger import Ledger
from lab.faults.staging import HEALED, WAIT_SECONDS, Staging, fault, require
from lab.shell import Shell
from resharding.steps import Step
from sharding.numbers import bucket_of_customer

# For each line: a process that moves a bucket to a database and dies at a step, and how it has ended.
MOVERS = """
import os, signal, sys
import django
django.setup()
from resharding import moving

def move(bucket, target, step):
    def die(reached):
        if reached.name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    moving.run(moving.start(int(bucket), target, drop_source=True), on_step=die)

for line in sys.stdin:
    mover = os.fork()
    if mover == 0:
        move(*line.split())
        os._exit(0)
    _, status = os.waitpid(mover, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""
# The locks of the dead go with their connections, which the database may notice a moment later.
FINISH = """
import stamina
from resharding import moving
from sharding import shards
from sharding.errors import MoveRefused
for attempt in stamina.retry_context(on=MoveRefused, attempts=None, timeout=10, wait_max=0.2):
    with attempt:
        for move in moving.active():
            {how}(move)
answer = shards.refresh().owners[{bucket}]
"""
OWNERS = """
from sharding import shards
from sharding.partitions import attached_buckets
owned = {{alias: attached_buckets(alias).values() for alias in shards.aliases()}}
answer = [alias for alias, tables in owned.items() if all({bucket} in buckets for buckets in tables)]
"""
GO_ON, GIVE_UP = "moving.run", "moving.abort"
TRIALS = [(step, GO_ON) for step in Step] + [(step, GIVE_UP) for step in (Step.COPIED, Step.CLOSED, Step.DETACHED)]


@contextmanager
def movers(shell: Shell) -> Iterator[Callable[[int, str, Step], None]]:
    """A function that moves a bucket to a database in a process that dies at a step; it raises FaultFailed."""
    process = shell.spawn("-c", MOVERS, stdin=PIPE, stdout=PIPE, start_new_session=True)
    ends = cast("IO[str]", process.stdout)
    answers = DefaultSelector()
    answers.register(ends, EVENT_READ)

    def move(bucket: int, target: str, step: Step) -> None:
        print(bucket, target, step.name, file=process.stdin, flush=True)
        ended = ends.readline().strip() if answers.select(WAIT_SECONDS) else "not at all"
        require(ended == str(-signal.SIGKILL), f"the mover ended with {ended} instead of dying at {step.value}")

    with process, answers:
        try:
            yield move
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@fault
def mover_killed(lab: Lab, ledger: Ledger) -> Staging:
    """A bucket is moved under its customers, its mover killed at each step; the next one goes on or gives up."""
    bucket = bucket_of_customer(max(ledger.customers))  # that of somebody who is ordering just now
    aliases = [alias for alias in lab.databases if alias != "default"]
    with movers(lab.shell) as move:
        for number, (step, how) in enumerate(TRIALS):
            home = lab.shell.run(FINISH.format(how=GO_ON, bucket=bucket))
            target = next(alias for alias in aliases[number % len(aliases) :] + aliases if alias != home)
            move(bucket, target, step)
            owner = lab.shell.run(FINISH.format(how=how, bucket=bucket))
            require(owner == (target if how == GO_ON else home), f"{how} after {step.value} left it in {owner}")
            attached = lab.shell.run(OWNERS.format(bucket=bucket))
            require(attached == [owner], f"{how} after {step.value} left it in {attached}")
    yield 1
    yield HEALED
