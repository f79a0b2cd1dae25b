"""The commands of docs/tutorial/order-over-http.md, pasted as a whole into a shell, end as the document says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.live import Live

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "order-over-http.md"
DEMO = "http://127.0.0.1:8000"


def commands() -> str:
    return "\n".join(re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE))


def answers(text: str) -> list[Any]:
    """The JSON values in what was printed; lines of headers are between some of them."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while (start := text.find("{", position)) >= 0:
        value, position = decoder.raw_decode(text, start)
        found.append(value)
    return found


def test_the_tutorial_of_the_api_pasted_as_a_whole_ends_as_it_says(live: Live, tmp_path: Path) -> None:
    pasted = commands()
    assert pasted.count(DEMO) == 1
    done = subprocess.run(
        ["sh"], input=pasted.replace(DEMO, live.url), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert done.stderr == ""
    lamps, product, placed, confirmed, history, asked, paid, refusal = answers(done.stdout)
    assert product == lamps["items"][0] | product
    assert "HTTP/1.1 202" in done.stdout
    assert (placed["status"], placed["coupon"]) == ("placed", "REGULAR")
    assert confirmed["status"] == "confirmed"
    assert [event["type"] for event in history["items"]][-1] == "order.confirmed"
    assert asked["payment"]["progress"] in ("in_progress", "captured")
    assert (paid["status"], paid["payment"]["progress"]) == ("paid", "captured")
    assert (refusal["status"], refusal["code"]) == (409, "cannot_cancel_paid")
