"""Block arithmetic (PROTOCOL "GetStream"). Part of the device set: runs on MicroPython.

Blocks are numbered from 0; block i is bytes i*block_size up to min((i+1)*block_size, size).
"""


def block_count(size: int, block_size: int) -> int:
    """Blocks of a file of `size` bytes; 0 for an empty file."""
    return (size + block_size - 1) // block_size


def block_length(index: int, size: int, block_size: int) -> int:
    """Bytes of block `index` (0 <= index < block_count): the block size, or less for the last one."""
    return min(block_size, size - index * block_size)
