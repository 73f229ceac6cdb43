"""Jobs and their executions in SQL: what the rules in `broker_bridge.jobs` decide, kept."""
