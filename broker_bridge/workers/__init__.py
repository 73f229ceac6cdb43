"""What answers devices: in the service's own process, or in several processes that share the fleet."""
