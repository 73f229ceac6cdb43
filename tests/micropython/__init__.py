"""The device set on the real interpreter."""
