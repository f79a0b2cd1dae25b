"""Order numbers say in which bucket an order lives; the shard map says in which database the bucket is."""
