"""Processes are killed and services taken away; afterwards nothing is lost and nothing happened twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.client import Client, Customer, RequestFailed
from lab.faults.campaign import MUTATIONS, Campaign, hurt
from lab.faults.catalogue import FAULTS, SKUS, Fault, new_customers
from lab.faults.lab import Lab
from lab.harness.stack import Embedded
from lab.oracle import DOUBLED, OVERSOLD
from lab.programs import questions
from monitoring.audit import CHECKS
from sharding import numbers
from tests.faults.conftest import Laboratory
from tests.live import Live
from tests.waiting import wait_until

pytestmark = pytest.mark.faults

# `script/faults` freezes every kind of process and turns the clock of every one. These are those whose silence or clock
# may meet an order's deadline.
CHOSEN = ("worker-orders-frozen", "worker-payments-frozen", "web-skewed", "worker-notifications-skewed")
STAGED = [fault for fault in FAULTS.values() if not fault.name.endswith(("-frozen", "-skewed")) or fault.name in CHOSEN]


@pytest.mark.services
@pytest.mark.parametrize("fault", STAGED, ids=lambda fault: fault.name)
def test_nothing_is_lost_doubled_or_oversold(campaign: Campaign, fault: Fault) -> None:
    """How soon is a matter of the machine, which has other tests to run meanwhile: `script/faults` looks at that."""
    if missing := fault.missing():
        pytest.skip(missing)
    outcome = campaign.stage(fault)

    assert outcome.verdict.findings == []
    assert outcome.errors == []
    assert outcome.accepted > 0


@pytest.mark.services
def test_a_shard_that_is_down_is_noticed_by_its_own_customers_only(campaign: Campaign, lab: Lab) -> None:
    down = "orders_3"
    alias_of = lab.call(questions.aliases_of_buckets)
    by_shard: dict[str, Customer] = {}
    for customer in new_customers(lab, campaign.ledger, 48):
        by_shard.setdefault(alias_of[numbers.bucket_of_customer(customer.customer_id)], customer)
    victim = by_shard.pop(down)
    assert len(by_shard) == 3
    number = numbers.to_text(victim.place({SKUS[0]: 1}).order_id)
    asks_once = Client(victim.url, token=victim.token)
    database = lab.databases[down].rpartition("/")[2]

    with lab.connect("orders_2") as admin:
        admin.execute(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false")
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
            wait_until(lambda: answers_503(asks_once, number), seconds=20)
            for other in by_shard.values():
                other.wait_for(other.place({SKUS[0]: 1}), "confirmed")
        finally:
            admin.execute(f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true")

    wait_until(lambda: not answers_503(asks_once, number), seconds=20)
    victim.wait_for(victim.place({SKUS[0]: 1}), "confirmed", seconds=60)
    lab.wait_until_quiet(60)
    assert campaign.judge().findings == []


def answers_503(client: Client, number: str) -> bool:
    try:
        client.order(number)
    except RequestFailed as refusal:
        return refusal.status == 503
    return False


@pytest.mark.services
@pytest.mark.slow
def test_an_outbox_that_is_written_outside_the_transaction_is_found_out(
    campaign: Campaign, laboratory: Laboratory
) -> None:
    """One of six mutations, in one service: `script/faults --self-test` gives each a whole shop of its own."""
    [mutation] = [mutation for mutation in MUTATIONS if mutation.name == "late-outbox"]
    assert campaign.judge().findings == []
    try:
        campaign.lab.mutate("worker-orders", mutation.name)
        assert hurt(campaign, mutation).lost > 0
    finally:
        laboratory.discard()


def test_checks_that_count_as_doubled_or_oversold_are_checks_of_the_audit() -> None:
    assert {check.name for check in CHECKS} >= DOUBLED | OVERSOLD
    assert not DOUBLED & OVERSOLD


def test_embedded_shop_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    shop = Embedded(data_dir=tmp_path, arguments=["--no-seed"])
    live = Live(shop, {"PROFILE": "embedded", "DEMO_DIR": str(tmp_path), "EVENTING_NAMESPACE": ""})
    with shop:
        live.product("FAULT-6", 1_000)
        [client] = live.shoppers(1)
        placed = [client.place(("FAULT-6", 1)) for _ in range(30)]
        shop.kill("embedded")
        live.close()
        shop.restart("embedded")
        wait_until(lambda: is_open(client), seconds=60)
        for number in placed:
            client.wait_for(number, "confirmed", seconds=60)
        assert live.stock("FAULT-6") == (1_000, 30, 970)
        live.close()


def is_open(client: Client) -> bool:
    try:
        return bool(client.products())
    except OSError:
        return False
