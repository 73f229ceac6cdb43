"""The protocol's quotas (PROTOCOL "Quotas"): AWS's values are the defaults, each one can be set."""

from dataclasses import dataclass, fields

_BOUNDS = {
    "block_size_min": (1, 1 << 20),
    "block_size_max": (1, 1 << 20),
    "block_offset_max": (0, (1 << 31) - 1),
    "block_count_max": (1, (1 << 31) - 1),
    "bitmap_bytes": (2, 65536),
    "client_token_bytes": (1, 4096),
    "files_per_stream": (1, 256),
    "request_bytes": (256, 16 << 20),
    "file_bytes": (1, (1 << 63) - 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a device may ask and a stream may hold. ValueError where a limit makes no sense.

    The device library keeps to AWS's values: a device cannot learn others.
    """

    block_size_min: int = 256
    """Least `l`, bytes."""
    block_size_max: int = 131072
    """Greatest `l`, bytes; no more than `request_bytes`."""
    block_offset_max: int = 98304
    """Greatest `o`, blocks."""
    block_count_max: int = 98304
    """Greatest `n`, blocks."""
    bitmap_bytes: int = 12288
    """A bitmap `b` is shorter than this, bytes."""
    client_token_bytes: int = 64
    """Longest `c`, bytes in UTF-8."""
    files_per_stream: int = 50
    """Most files in one stream."""
    request_bytes: int = 131072
    """Most file bytes that answer one request."""
    file_bytes: int | None = None
    """Largest file a stream takes in, bytes; None: no bound. AWS's is 24 MB."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = _BOUNDS[field.name]
            if value is not None and not low <= value <= high:
                raise ValueError(f"limits.{field.name} is {value}; it must be from {low} to {high}")
        if not self.block_size_min <= self.block_size_max <= self.request_bytes:
            raise ValueError(
                "limits.block_size_min, block_size_max and request_bytes must ascend; they are "
                f"{self.block_size_min}, {self.block_size_max} and {self.request_bytes}"
            )
