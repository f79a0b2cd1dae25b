#!/usr/bin/env python
"""Django's command line."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line
    from django.db import DatabaseError, OperationalError
    from django.utils.connection import ConnectionDoesNotExist

    try:
        if sys.argv[1:2] == ["run"]:
            from config.management.commands import run

            run.Command().run_from_argv(sys.argv)  # before the settings are read: a role has some of its own
        else:
            execute_from_command_line(sys.argv)
    except DatabaseError as error:
        # The second is what SQLite says of a file that is no database; its subclasses are mistakes of a program.
        if type(error) not in (OperationalError, DatabaseError) or "--traceback" in sys.argv:
            raise
        from django.conf import settings

        where = f" The data is kept in {settings.DATA_DIR}." if settings.EMBEDDED else ""
        sys.exit(f"A database cannot be used: {' '.join(str(error).split())}.{where}")
    except ConnectionDoesNotExist as error:
        sys.exit(f"{error} The shard map names it: ORDER_SHARDS or ORDER_SHARD_URLS names too few databases.")


if __name__ == "__main__":
    main()
