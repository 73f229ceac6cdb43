"""What several test modules need: ports, waiting, and the real programs that the tests run against."""
