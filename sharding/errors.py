"""What can go wrong between an order number and the database that it lives in."""

from django.db import OperationalError


class ShardingError(Exception):
    """Sharding was used wrongly, or is not set up."""


class UnroutedQuery(ShardingError):
    """A query for a sharded model does not say in which database it is to run."""


class ShardMapMissing(ShardingError):
    """There is no shard map yet."""


class WrongDatabases(ShardingError):
    """The settings lead to other databases than those of this installation."""


class ServerUnavailable(ShardingError):
    """A database server cannot be connected to."""


class BucketMoving(ShardingError, OperationalError):
    """No database accepts a bucket's rows at the moment. Being an OperationalError, it is worth another try later."""


class MoveRefused(ShardingError):
    """A bucket cannot be moved like this, or not now. Nothing is lost: what has begun can be resumed or aborted."""
