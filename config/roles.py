"""The processes of the services profile: which there are, and what they hold of the databases' connections.

config/management/commands/run.py says what each of them is. docker-compose.yml runs the same ones.
"""

# Each worker takes the queues of these subscribers. `tasks` is the queue of what no event causes.
WORKERS = (("inventory",), ("coupons",), ("orders",), ("payments",), ("notifications", "tasks"), ("integration",))
AT_SHARDS = frozenset({"orders", "notifications", "tasks"})  # what they do happens in the orders' databases, too
WORKER_CONNECTIONS = 1  # to one database: a worker's process does one task at a time

# Name of the process: arguments of `manage.py run`.
PROCESSES: dict[str, tuple[str, ...]] = {
    "web": ("web",),
    "relay": ("relay",),
    **{f"worker-{names[0]}": ("worker", *names) for names in WORKERS},
    "beat": ("beat",),
}


def connection_budget(*, web_workers: int, web_connections: int, concurrency: int) -> dict[str, tuple[int, int, bool]]:
    """Role: processes, connections that each may hold to a database, and whether to every database or none of the
    shards'.
    """
    workers = {
        f"worker {' '.join(names)}": (concurrency, WORKER_CONNECTIONS, not AT_SHARDS.isdisjoint(names))
        for names in WORKERS
    }
    return {
        "web": (web_workers, web_connections, True),
        "relay": (1, 1, True),
        **workers,
        "beat": (1, 2, False),
        # On top of its worker's or command's: one connection each to `default`, to the source and to the target.
        "the mover of a bucket": (3, 1, False),
    }
