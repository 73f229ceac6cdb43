"""The commands, a module each. What is heavy is imported where it is used."""
