"""What the OTA agent asks of the device that it runs on. Runs on MicroPython.

The boot loader is the platform's: it decides what runs, over two slots, with a test boot (after MCUboot's
idea, `firmware_sim.boot.loader`). What is durable must be so when the call returns, at any instant of a power
cut either as it was before or as it is after.
"""

TYPE_CHECKING = False  # MicroPython has no `typing` to import it from
if TYPE_CHECKING:
    from typing import Protocol

    from device_client.sinks import Sink

    class Platform(Protocol):
        """What the agent needs of the device. `version`: that runs, major << 24 | minor << 16 | build;
        `slot_bytes`: the largest image; `head_bytes`: of an image, that `identify` needs."""

        @property
        def model(self) -> str: ...
        @property
        def version(self) -> int: ...
        @property
        def slot_bytes(self) -> int: ...
        @property
        def head_bytes(self) -> int: ...

        def testing(self) -> bool:
            """Whether what runs was booted for a test, and is lost unless it is confirmed."""

        def refused(self) -> str:
            """Why the loader does not run what is in the spare slot: it had its test boot and did not
            confirm itself. Empty where it never had one. A platform that cannot tell says that it had."""

        def identify(self, head: bytes | bytearray) -> "tuple[str, int] | None":
            """Model and version of the image that begins so; None where it is no image. Not verified yet."""

        def sink(self) -> Sink:
            """Where the spare slot's next image goes. It may raise SinkError."""

        def request(self) -> None:
            """Durably: what is in the spare slot is booted for a test. ImageRefused."""

        def confirm(self) -> None:
            """Durably: what runs works. ImageRefused where that cannot be noted."""

        def revert(self) -> None:
            """Durably: what runs on its test boot is not booted again."""

        def reset(self) -> object:
            """Reboots. Need not return; where it does, the agent is over."""


class ImageRefused(Exception):
    """The platform does not boot this image, or does not keep it; says why."""
