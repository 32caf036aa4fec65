"""Many small runs, done here or on a cluster, and what they measured put together."""
