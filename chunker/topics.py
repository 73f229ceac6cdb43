"""`$aws/things/{thing}/streams/{stream}/{verb}/{encoding}` (PROTOCOL "Topics"). Part of the device set."""

CBOR = "cbor"
JSON = "json"
ENCODINGS = (CBOR, JSON)


def topic(thing: str, stream: str, verb: str, encoding: str) -> str:
    """The topic of one verb (`describe`, `description`, `get`, `data`, `rejected`)."""
    return "$aws/things/" + thing + "/streams/" + stream + "/" + verb + "/" + encoding


def split(name: str) -> "tuple[str, str, str, str] | None":
    """(thing, stream, verb, encoding) of a topic of this protocol, unchecked; None for any other topic."""
    parts = name.split("/")
    if len(parts) != 7 or parts[0] != "$aws" or parts[1] != "things" or parts[3] != "streams":
        return None
    return parts[2], parts[4], parts[5], parts[6]
