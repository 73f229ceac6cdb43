"""The AWS wire: HTTP requests to plain Python calls and back, driven by botocore's service models."""
