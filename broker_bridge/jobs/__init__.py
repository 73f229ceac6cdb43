"""Jobs and their executions: the rules, without I/O. The time comes in, decisions come out."""
