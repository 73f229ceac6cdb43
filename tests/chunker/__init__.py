"""What devices ask for, decoded, and what the service answers."""
