"""Several processes that answer devices."""
