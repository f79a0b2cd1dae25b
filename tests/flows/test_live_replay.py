"""Replay and rebuild beside a running shop: through RabbitMQ where there is one, and with customers at it."""

from __future__ import annotations

import subprocess

from tests import programs
from tests.live import Live
from tests.waiting import wait_until


def manage(live: Live, *arguments: str) -> str:
    process = live.spawn("manage.py", *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    return str(out)


def test_a_lost_message_is_restored_by_a_replay_and_nothing_else_happens(live: Live) -> None:
    live.product("REPLAY", 10)
    client = live.client()
    number = client.place(("REPLAY", 3))
    client.wait_for(number, "confirmed")
    whole = ["order_confirmed", "order_placed"]
    wait_until(lambda: live.call(programs.in_inbox, number) == whole, seconds=20)
    live.call(programs.lose_message, number, "order_placed")

    answer = manage(
        live,
        *("replay", "--subscriber=notifications", "--forget"),
        "--without-outside-effects",
        f"--stream=order-{number}",
    )

    assert answer == "2 events sent to notifications.\n"
    wait_until(lambda: live.call(programs.in_inbox, number) == whole, seconds=20)


def test_a_whole_history_is_replayed_into_a_shop_at_work(live: Live) -> None:
    live.product("REPLAY-ALL", 10)
    client = live.client()
    number = client.place(("REPLAY-ALL", 4))
    client.wait_for(number, "confirmed")
    before = live.call(programs.handled_at, number, "inventory")

    manage(live, "replay", "--subscriber=inventory", "--forget")
    wait_until(lambda: live.call(programs.handled_at, number, "inventory") != before, seconds=30)

    assert live.stock("REPLAY-ALL") == (10, 4, 6)
    client.cancel(number)
    wait_until(lambda: live.stock("REPLAY-ALL") == (10, 0, 10), seconds=20)


def test_the_read_model_is_rebuilt_while_orders_are_placed(live: Live) -> None:
    live.product("REBUILD", 500)
    process = live.spawn("manage.py", "rebuild", "--projection=orders", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    clients = live.shoppers(4)
    placed = []
    while process.poll() is None:
        for client in clients:
            number = client.place(("REBUILD", 1))
            assert client.order(number)["number"] == number
            placed.append((client, number))
            if len(placed) % 2:
                client.cancel(number)
    out, err = process.communicate(timeout=120)

    assert process.returncode == 0, out + err
    assert placed
    for client, number in placed:
        client.wait_for(number, "confirmed", "cancelled", seconds=30)
    assert " 0 differ." in manage(live, "rebuild", "--projection=orders", "--check")
