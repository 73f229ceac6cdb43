"""The connection to the broker: packets, session, writer."""
