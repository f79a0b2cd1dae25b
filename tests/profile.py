"""Chooses the profile under test before Django reads its settings; loaded by pytest as a plugin.

`TEST_PROFILE` is `services` (PostgreSQL, RabbitMQ, Redis) or `embedded` (SQLite, everything in one process; the
default). `TEST_RUN` gives the databases and queues of a run names of their own.
"""

import os
from pathlib import Path

PROFILE = os.environ.setdefault("TEST_PROFILE", "embedded")
RUN = os.environ.setdefault("TEST_RUN", "run")
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")

os.environ["PROFILE"] = PROFILE
os.environ["DEMO_DIR"] = str(Path(__file__).resolve().parent.parent / "var" / "test" / RUN)
os.environ.setdefault("SECRET_KEY", "only-for-tests-" + "0" * 40)
os.environ["EVENTING_NAMESPACE"] = "_".join(filter(None, ["test", RUN, WORKER]))
os.environ["SANDBOX_SLOW_SECONDS"] = "0.1"
os.environ["HTTPS"] = "false"  # the tests' clients speak plain HTTP
if PROFILE == "services":
    os.environ.setdefault("DATABASE_URL", "postgres://root@127.0.0.1:5432/wharf")
    # Emptying a database costs a test a tenth of a second; the live shop of the flow tests has all eight shards.
    os.environ.setdefault("ORDER_SHARDS", "4")
    os.environ.setdefault("CELERY_BROKER_URL", "amqp://guest:guest@127.0.0.1:5672//")
    os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:6379/9")
