"""The device library."""
