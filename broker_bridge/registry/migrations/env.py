"""Alembic runs this to apply revisions, on the connection and in the transaction that its caller gives it."""

from alembic import context

from broker_bridge.registry.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
