"""How the schema came to be: Alembic revisions, applied at start by `broker_bridge.registry.database`."""
