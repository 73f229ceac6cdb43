"""What Sluice must reach, measured: `make bench`."""
