"""What can be wrong with an OTA update."""


class InvalidUpdate(Exception):
    """What was asked for makes no sense. The message names the member, its value and its bound."""


class CreateFailed(Exception):
    """An update cannot be made, now or later. What was made of it is to be undone.

    `code` is AWS IoT's name of the error, or this service's own of a refusal to devices (`ETagMismatch`).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
