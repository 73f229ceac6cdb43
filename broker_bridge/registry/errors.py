"""What can be wrong with a registry. Messages are for logs and operators."""


class RegistryError(Exception):
    """The registry could not do what was asked. Nothing was changed."""


class StreamExists(RegistryError):
    """There is a stream of that id already."""

    def __init__(self, stream_id: str) -> None:
        super().__init__(f"stream {stream_id} exists already")
        self.stream_id = stream_id


class StreamNotFound(RegistryError):
    """There is no stream of that id."""

    def __init__(self, stream_id: str) -> None:
        super().__init__(f"there is no stream {stream_id}")
        self.stream_id = stream_id


class VersionConflict(RegistryError):
    """The stream is not at the version that the caller expected: somebody else updated it."""

    def __init__(self, stream_id: str, expected: int, found: int) -> None:
        super().__init__(f"stream {stream_id} is at version {found}, not at {expected}")
        self.stream_id = stream_id
        self.expected = expected
        self.found = found


class TooManyTags(RegistryError):
    """A resource would have more tags than it may."""

    def __init__(self, owner: str, count: int, limit: int) -> None:
        """`owner`: what it is and its name (`stream s`)."""
        super().__init__(f"{owner} would have {count} tags; at most {limit} are allowed")
        self.owner = owner
        self.count = count
        self.limit = limit


class RegistryLocked(RegistryError):
    """Another service works with this database."""


class RegistryUnavailable(RegistryError):
    """The database cannot be reached or used, or its schema is not one that this program knows."""
