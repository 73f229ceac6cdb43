"""The contract on the wire, held over a real broker."""
