"""The whole of it: real service, real broker, real device library, and what happens between them."""
