"""Faults of buckets on their way to another database."""

from __future__ import annotations

import signal

from loadtest.faults.lab import Lab
from loadtest.faults.ledger import Ledger
from loadtest.faults.staging import HEALED, WAIT_SECONDS, Staging, fault, require
from sharding.numbers import bucket_of_customer
from sharding.steps import Step

# Moves a bucket, and dies at a step.
MOVER = """
import os, signal, sys
import django
django.setup()
from sharding import moving

def die(reached):
    if reached.name == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)

moving.run(moving.start(int(sys.argv[1]), sys.argv[2], drop_source=True), on_step=die)
"""
# The locks of the dead go with their connections, which the database may notice a moment later.
FINISH = """
import stamina
from sharding import moving, shards
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


@fault
def mover_killed(lab: Lab, ledger: Ledger) -> Staging:
    """A bucket is moved under its customers, its mover killed at each step; the next one goes on or gives up."""
    bucket = bucket_of_customer(max(ledger.customers))  # that of somebody who is ordering just now
    aliases = [alias for alias in lab.databases if alias != "default"]
    for number, (step, how) in enumerate(TRIALS):
        home = lab.shell.run(FINISH.format(how=GO_ON, bucket=bucket))
        target = next(alias for alias in aliases[number % len(aliases) :] + aliases if alias != home)
        mover = lab.shell.spawn("-c", MOVER, str(bucket), target, step.name)
        require(mover.wait(WAIT_SECONDS) == -signal.SIGKILL, f"the mover did not come to {step.value}")
        owner = lab.shell.run(FINISH.format(how=how, bucket=bucket))
        require(owner == (target if how == GO_ON else home), f"{how} after {step.value} left it in {owner}")
        attached = lab.shell.run(OWNERS.format(bucket=bucket))
        require(attached == [owner], f"{how} after {step.value} left it in {attached}")
    yield 1
    yield HEALED
