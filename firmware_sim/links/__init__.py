"""Simulated links: what a radio does to an MQTT connection, as a model, as profiles and as a relay."""
