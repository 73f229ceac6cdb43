"""The registry, on real SQLite files."""
