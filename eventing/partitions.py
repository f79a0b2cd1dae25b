"""The partitioned tables of a PostgreSQL database, as its catalogue has them."""

from django.db import connections


def partitioned_tables(alias: str) -> tuple[str, ...]:
    """The tables of a PostgreSQL database that are partitioned by a range of one bigint column, sorted by name."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_partitioned_table p JOIN pg_class c ON c.oid = p.partrelid"
            " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]"
            " WHERE p.partstrat = 'r' AND p.partnatts = 1 AND a.atttypid = 'bigint'::regtype"
            " AND c.relnamespace = current_schema()::regnamespace ORDER BY c.relname"
        )
        return tuple(name for (name,) in cursor.fetchall())


def partitions(alias: str, relation: str) -> tuple[str, ...]:
    """The partitions attached to a partitioned table, or to an index of one, of a PostgreSQL database."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT part.relname FROM pg_inherits i JOIN pg_class parent ON parent.oid = i.inhparent"
            " JOIN pg_class part ON part.oid = i.inhrelid"
            " WHERE parent.relname = %s AND parent.relnamespace = current_schema()::regnamespace ORDER BY part.relname",
            [relation],
        )
        return tuple(name for (name,) in cursor.fetchall())
