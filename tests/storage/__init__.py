"""Folders, S3 and the range cache."""
