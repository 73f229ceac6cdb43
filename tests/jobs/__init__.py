"""The rules of jobs, without a database."""
