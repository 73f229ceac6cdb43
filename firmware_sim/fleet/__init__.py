"""Many devices in one process, each with a connection, a download and a store of its own: see `run`."""
