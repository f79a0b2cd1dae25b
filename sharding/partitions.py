"""One PostgreSQL partition a bucket. A database owns a bucket exactly when it has the bucket's partitions attached."""

from eventing.partitions import partitioned_tables, partitions
from sharding import shards
from sharding.numbers import BUCKETS, bucket_range


def partition_name(table: str, bucket: int) -> str:
    """The name of the table that holds a bucket's rows of a partitioned table."""
    return f"{table}_b{bucket:03d}"


def partition_bucket(partition: str) -> int:
    """The bucket whose rows are in the partition of this name."""
    return int(partition.rpartition("_b")[2])


def partition_statements(table: str, bucket: int) -> tuple[str, str]:
    """The two statements that give a partitioned table the partition of a bucket.

    Attaching an empty table lets reads and writes of the other partitions go on, which `PARTITION OF` does not. The
    indexes come with the attachment.
    """
    name = partition_name(table, bucket)
    return (
        f'CREATE TABLE "{name}" (LIKE "{table}" INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED)',
        attach_statement(table, bucket),
    )


def attach_statement(table: str, bucket: int) -> str:
    """The statement with which a database begins to own a bucket, as far as one table goes."""
    low, high = bucket_range(bucket)
    upper = "MAXVALUE" if bucket == BUCKETS - 1 else str(high)  # 2**63 is one more than a bigint holds
    name = partition_name(table, bucket)
    return f'ALTER TABLE "{table}" ATTACH PARTITION "{name}" FOR VALUES FROM ({low}) TO ({upper})'


def of_new_table(alias: str, table: str) -> list[str] | None:
    """What makes the partitions of a new table: one for each bucket that the database owns; None outside of the shards.

    See EVENTING_PARTITIONS.
    """
    if alias not in shards.aliases():
        return None
    return [
        statement for bucket in shards.buckets_to_create(alias) for statement in partition_statements(table, bucket)
    ]


def attached_buckets(alias: str) -> dict[str, frozenset[int]]:
    """The buckets whose partitions are attached, of every bucketed table of a PostgreSQL database."""
    return {table: frozenset(map(partition_bucket, partitions(alias, table))) for table in partitioned_tables(alias)}
