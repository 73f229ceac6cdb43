"""Why a download ended without the file. Part of the device set: runs on MicroPython."""


class DownloadError(Exception):
    """Base of everything that ends a download."""


class Rejected(DownloadError):
    """The service refused: `code` is one of PROTOCOL "Rejections", `message` says what is wrong."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class BlockSizeError(DownloadError):
    """No request can reach all blocks of this size, or memory cannot take one; says which sizes would do."""


class DownloadTimeout(DownloadError):
    """Nothing new arrived for as long as the caller was ready to wait."""


class SinkError(DownloadError):
    """The file cannot be written or read back: no room, no permission, or another download is writing it."""
