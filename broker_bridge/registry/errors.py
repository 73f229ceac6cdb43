"""What can be wrong with a registry. Messages are for logs and operators."""


class RegistryError(Exception):
    """The registry could not do what was asked. Nothing was changed."""


class NotFound(RegistryError):
    """There is nothing of that kind and name."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name}")
        self.kind = kind
        self.name = name


class Exists(RegistryError):
    """There is one of that kind and name already, and it is another than was to be made."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name} exists already")
        self.kind = kind
        self.name = name


class NotAllowed(RegistryError):
    """The change breaks a rule that holds between resources; the message names them and the bound."""


class StreamExists(Exists):
    """There is a stream of that id already."""

    def __init__(self, stream_id: str) -> None:
        super().__init__("stream", stream_id)
        self.stream_id = stream_id


class StreamNotFound(NotFound):
    """There is no stream of that id."""

    def __init__(self, stream_id: str) -> None:
        super().__init__("stream", stream_id)
        self.stream_id = stream_id


class ThingNotFound(NotFound):
    """There is no thing of that name."""

    def __init__(self, thing_name: str) -> None:
        super().__init__("thing", thing_name)


class ThingExists(Exists):
    """There is a thing of that name already, of another type or with other attributes."""

    def __init__(self, thing_name: str, thing_id: str) -> None:
        super().__init__("thing", thing_name)
        self.thing_id = thing_id


class ThingTypeNotFound(NotFound):
    """There is no thing type of that name."""

    def __init__(self, type_name: str) -> None:
        super().__init__("thing type", type_name)


class ThingTypeExists(Exists):
    """There is a thing type of that name already, with other properties."""

    def __init__(self, type_name: str, type_id: str) -> None:
        super().__init__("thing type", type_name)
        self.type_id = type_id


class ThingTypeDeprecated(NotAllowed):
    """A thing was to get a type that takes no more things."""

    def __init__(self, type_name: str) -> None:
        super().__init__(f"thing type {type_name} is deprecated: no more things may have it")


class ThingTypeInUse(NotAllowed):
    """A thing type was to be deleted that things may have, or have."""


class ThingGroupNotFound(NotFound):
    """There is no thing group of that name."""

    def __init__(self, group_name: str) -> None:
        super().__init__("thing group", group_name)


class ThingGroupExists(Exists):
    """There is a thing group of that name already, with another parent or other properties."""

    def __init__(self, group_name: str, group_id: str) -> None:
        super().__init__("thing group", group_name)
        self.group_id = group_id


class ThingGroupHasChildren(NotAllowed):
    """A thing group was to be deleted that has child groups."""

    def __init__(self, group_name: str, child: str) -> None:
        super().__init__(f"thing group {group_name} has child groups, {child} among them: delete them first")


class HierarchyTooLarge(NotAllowed):
    """A thing group was to be made too deep below others, or below one that has all the children it may."""


class MembershipNotAllowed(NotAllowed):
    """A thing was to join too many groups, or two of one hierarchy."""


class TooManyAttributes(NotAllowed):
    """A thing or thing group would have more attributes than it may."""

    def __init__(self, owner: str, count: int, limit: int) -> None:
        """`owner`: what it is and its name (`thing t`)."""
        super().__init__(f"{owner} would have {count} attributes; at most {limit} are allowed")


class VersionConflict(RegistryError):
    """Something is not at the version that the caller expected: somebody else updated it."""

    def __init__(self, owner: str, expected: int, found: int) -> None:
        """`owner`: what it is and its name (`stream s`)."""
        super().__init__(f"{owner} is at version {found}, not at {expected}")
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
