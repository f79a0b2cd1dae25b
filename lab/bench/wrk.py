"""Requests as fast as they are answered, by `wrk`, a client in C (Debian's package `wrk`)."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.probes import Unusable
from lab.services import install

CONNECTIONS = 64  # that orders are placed on
# Each thread of wrk has Lua of its own; the last line of each prints what it has counted.
ORDERS = """
local tokens = { %(tokens)s }
local number, thread = 0, 0
function setup(one) thread = thread + 1; one:set("thread", thread) end
function init() math.randomseed(os.time() + thread * 7919); run = math.random(1, 2^30) end
function request()
  number = number + 1
  local headers = {
    ["Content-Type"] = "application/json",
    ["Authorization"] = "Bearer " .. tokens[number %% #tokens + 1],
    ["Idempotency-Key"] = run .. "-" .. thread .. "-" .. number,
  }
  return wrk.format("POST", "/api/v1/orders", headers, '%(body)s')
end
"""
# Requests leave by the clock, whatever the answers do, as long as connections are free. Before each request, wrk asks
# how many milliseconds to wait.
PACE = """
local ffi = require("ffi")
ffi.cdef[[ typedef struct { long seconds; long micros; } moment; int gettimeofday(moment *now, void *zone); ]]
local moment, due = ffi.new("moment"), 0
local function now()
  ffi.C.gettimeofday(moment, nil)
  return tonumber(moment.seconds) * 1000 + tonumber(moment.micros) / 1000
end
function delay()
  if due == 0 then due = now() end
  due = math.max(due + 1000 / %(rate)f, now() - 1000)
  return math.max(0, math.floor(due - now()))
end
"""
REPORT = """
function done(summary, latency, requests)
  io.write(string.format("RESULT %%d %%d %%d %%d %%f %%f\\n", summary.requests, summary.duration,
    summary.errors.status, summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
""".replace("%%", "%")
RESULT = re.compile(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\S+) (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """`rate` in requests a second, times in milliseconds.

    `refused` were answered with an error, `failed` not at all.
    """

    rate: float
    requests: int
    refused: int
    failed: int
    p50: float
    p99: float


def program() -> str:
    """Where wrk is. Raises Unusable if it is nowhere and cannot be installed."""
    if shutil.which("wrk") is None:
        install(["wrk"])
    found = shutil.which("wrk")
    if found is None:
        raise Unusable("wrk is not installed (Debian: apt install wrk)")
    return found


def get(url: str, folder: Path, *, seconds: int, headers: Mapping[str, str] | None = None) -> Answered:
    return _run(url, "", folder, seconds=seconds, headers=headers or {})


def place_orders(
    url: str, tokens: Sequence[str], body: str, folder: Path, *, seconds: int, rate: float | None = None
) -> Answered:
    """Each request is a new order of one of the customers, whose tokens these are.

    They come at `rate` a second, or as fast as CONNECTIONS get answers.
    """
    quoted = ", ".join(f'"{token}"' for token in tokens)
    script = ORDERS % {"tokens": quoted, "body": body}
    if rate is not None:
        script += PACE % {"rate": rate}
    return _run(url, script, folder, seconds=seconds, headers={}, connections=CONNECTIONS)


def _run(
    url: str, script: str, folder: Path, *, seconds: int, headers: Mapping[str, str], connections: int = 8
) -> Answered:
    file = folder / "requests.lua"
    file.write_text(script + REPORT)
    command = [
        program(),
        "--threads=1",
        f"--connections={connections}",
        f"--duration={seconds}s",
        "--timeout=10s",
        f"--script={file}",
    ]
    for name, value in headers.items():
        command.append(f"--header={name}: {value}")
    ended = subprocess.run([*command, url], capture_output=True, text=True)
    found = RESULT.search(ended.stdout)
    if found is None:
        raise Unusable(f"wrk failed: {ended.stdout} {ended.stderr}")
    requests, microseconds, refused, failed = (int(number) for number in found.groups()[:4])
    return Answered(
        rate=(requests - refused) / (microseconds / 1e6),
        requests=requests,
        refused=refused,
        failed=failed,
        p50=float(found[5]),
        p99=float(found[6]),
    )
