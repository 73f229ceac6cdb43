"""From requests to blocks, without a broker."""
