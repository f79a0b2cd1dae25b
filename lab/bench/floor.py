"""What PostgreSQL alone does here: `pgbench` writes the rows of an order, with eight clients."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from lab.instances import postgresql_programs
from lab.probes import Unusable

CLIENTS = 8
# As many rows of the same size as the placement of an order with two lines leaves in its database.
TABLES = """
CREATE TABLE IF NOT EXISTS floor_event (
    stream_id bigint, category text, version int, type text, schema_version int, data text, metadata text,
    recorded_at timestamptz, PRIMARY KEY (stream_id, category, version));
CREATE TABLE IF NOT EXISTS floor_order (
    id bigint PRIMARY KEY, customer_id bigint, status text, total bigint, currency text, placed_at timestamptz);
CREATE TABLE IF NOT EXISTS floor_line (
    order_id bigint, position int, sku text, name text, quantity int, unit_price bigint,
    PRIMARY KEY (order_id, position));
"""
SCRIPT = """
\\set id random(1, 9000000000000000000)
BEGIN;
INSERT INTO floor_event VALUES (:id, 'order', 1, 'order.placed', 1, repeat('x', 600), repeat('x', 150), now());
INSERT INTO floor_order VALUES (:id, 4711, 'placed', 2100, 'EUR', now());
INSERT INTO floor_line VALUES (:id, 1, 'TEA', 'Green tea', 2, 450), (:id, 2, 'CUP', 'Cup', 1, 1200);
COMMIT;
"""


def orders_a_second(database_url: str, folder: Path, *, seconds: int) -> float:
    """Raises Unusable if there is no pgbench."""
    programs = postgresql_programs()
    pgbench = None if programs is None else programs / "pgbench"
    if pgbench is None or not pgbench.exists():
        raise Unusable("pgbench is not installed; it comes with PostgreSQL's server")
    script = folder / "floor.sql"
    script.write_text(SCRIPT)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(TABLES)
    url = urlsplit(database_url)
    command = [str(pgbench), "--no-vacuum", f"--client={CLIENTS}", "--jobs=2", f"--time={seconds}", f"--file={script}"]
    ended = subprocess.run([*command, url.geturl()], capture_output=True, text=True)
    found = re.search(r"^tps = ([0-9.]+)", ended.stdout, re.MULTILINE)
    if ended.returncode or found is None:
        raise Unusable(f"pgbench failed: {ended.stderr.strip()}")
    return float(found[1])
