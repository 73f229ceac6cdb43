"""The tests: one folder to a room of the house; what they share is in `support` and `conftest.py`."""
