"""Streams, their versions, files and tags, kept in SQL."""
