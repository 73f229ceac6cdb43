"""The flags of the commands. Each one is a setting by the same name; nothing is converted or checked here."""

import argparse
from dataclasses import dataclass
from typing import NoReturn

from sluice.failure import SettingsError


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag as `--help` shows it; without `metavar` it is a switch, with a `--no-` form."""

    help: str
    metavar: str | None = None


FLAGS = {
    "http": Flag("the API's address: where serve listens, where others call [127.0.0.1:4580]", "HOST:PORT"),
    "insecure_http": Flag("listen beyond loopback, though the API asks for no credentials"),
    "broker": Flag("mqtt[s]://[user:password@]host[:port]; passwords are safer in SLUICE_BROKER", "URL"),
    "mqtt": Flag("where the embedded broker listens, without --broker [127.0.0.1:1883]", "HOST:PORT"),
    "cafile": Flag("CA certificates that sign the broker's certificate [the system's]", "PEM"),
    "cert": Flag("client certificate for the broker, with --key", "PEM"),
    "key": Flag("private key of --cert", "PEM"),
    "state": Flag("folder of the service's own data [~/.local/share/sluice]", "DIR"),
    "objects": Flag("folder of the objects: a bucket is a folder in it [STATE/objects]", "DIR"),
    "s3": Flag("objects are in S3"),
    "s3_endpoint": Flag("objects are in the S3-compatible store at this URL", "URL"),
    "database": Flag("the registry's SQLAlchemy URL [SQLite in STATE]", "URL"),
    "workers": Flag("processes that answer devices, 1 to 64 [1]", "N"),
    "region": Flag("AWS region in ARNs [us-east-1]", "NAME"),
    "account": Flag("AWS account in ARNs [000000000000]", "DIGITS"),
    "thing": Flag("the thing to be, or to update", "NAME"),
    "stream": Flag("the stream", "ID"),
    "file": Flag("file id in the stream, 0 to 255 [0]", "N"),
    "bucket": Flag("bucket that takes the object [firmware]", "NAME"),
    "block_size": Flag("block size: 256 to 131072 bytes, or as '64 KiB' [fits the file, from 4096]", "N"),
    "encoding": Flag("cbor or json [cbor]", "NAME"),
    "sha256": Flag("SHA-256 that the file must have", "HEX"),
    "out": Flag("where to write the file", "PATH"),
    "timeout": Flag("seconds without an answer after which to give up [30]", "SECONDS"),
    "json": Flag("print the result as JSON"),
    "group": Flag("thing groups to update, joined by commas", "NAME,..."),
    "id": Flag("id of the rollout: 1 to 56 of a-z A-Z 0-9 _ - [the file's name and the time]", "ID"),
    "signing_key": Flag("private key that signs the file here; it is never sent", "PEM"),
    "signing_profile": Flag("key of the service that signs the file there", "NAME"),
    "signature": Flag("signature of the file, made elsewhere: DER or Base64", "PATH"),
    "certificate": Flag("where devices have the signer's certificate [/device/certs/signer.pem]", "PATH"),
    "path": Flag("where devices put the file [its name]", "PATH"),
    "file_type": Flag("fileType in the job document, 0 to 255", "N"),
    "protocols": Flag("how devices may fetch the file: MQTT, HTTP or MQTT,HTTP [MQTT]", "NAMES"),
    "canary": Flag("so many of the things first, as in 5%: short for --stages 5@95:10m/100", "PERCENT"),
    "stages": Flag("percent@succeeded:soak/..., as in 5@95:10m/25@98:1h/100", "PLAN"),
    "max_per_minute": Flag("things that are reached in a minute at most, 1 to 1000", "N"),
    "abort_on": Flag("failures that stop it: [KIND:]PERCENT%[:LEAST],... as in FAILED:5%:20", "LIST"),
    "device_timeout": Flag("minutes in which a device that has begun must end, 1 to 10080", "MINUTES"),
    "continuous": Flag("also for things that join the group later"),
    "detach": Flag("do not follow the rollout"),
    "force": Flag("cancel it also for devices that have begun"),
    "devices": Flag("devices to simulate, 1 to 20000 [100]", "N"),
    "thing_prefix": Flag("how the names of simulated things begin; a number follows [sim-]", "TEXT"),
    "profile": Flag("kind of the devices, or a mix of kinds [mixed]", "NAME"),
    "profile_file": Flag("further kinds of devices", "TOML"),
    "link": Flag("kind of their link to the broker [perfect]", "NAME"),
    "link_file": Flag("further kinds of links", "TOML"),
    "ramp": Flag("seconds over which the devices start [10]", "SECONDS"),
    "patience": Flag("seconds without anything new after which a device gives up [its profile's]", "SECONDS"),
    "seed": Flag("what is left to chance follows from it [0]", "N"),
    "plot": Flag("draw the run, as .png or .svg", "PATH"),
    "public_key": Flag("key that devices verify images with [the public half of --signing-key]", "PEM"),
    "fail_self_test": Flag("share of devices on which a new version does not work [0%]", "PERCENT"),
    "power_cuts": Flag("share whose power fails, at each of four moments [0%]", "PERCENT"),
    "listen": Flag("where the relay listens; port 0 takes a free one [127.0.0.1:1884]", "HOST:PORT"),
    "update": Flag("what is installed: good, forged, rotten, truncated, older or silent [good]", "KIND"),
    "ota": Flag("the image comes as an OTA update, which is a job of the device's"),
    "image_size": Flag("bytes of the image, without its head [24000]", "N"),
    "sector_size": Flag("bytes that the flash erases at once [4096]", "N"),
    "page_size": Flag("bytes that it programs at once [256]", "N"),
    "write_size": Flag("bytes that are programmed together and once; 1: bit by bit [1]", "N"),
    "shuffled": Flag("blocks come in any order"),
    "lost": Flag("share of messages that are lost, 0 to 1 [0]", "SHARE"),
    "cuts": Flag("power cuts in one run at most [2]", "N"),
    "torn": Flag("what a cut leaves: of none, whole, prefix, bits, weak [all of them]", "KIND,..."),
    "micropython": Flag("MicroPython 1.25 for Unix to run firmware on [CPython]", "PATH"),
    "library": Flag("the device library compiled for it, by `make mpy` [dist/mpy]", "DIR"),
    "heap": Flag("its heap, in bytes or as 64k [128k]", "SIZE"),
    "log_level": Flag("debug, info, warning or error [info]", "LEVEL"),
    "log_format": Flag("text or json lines [text on a terminal, else json]", "FORMAT"),
}

SERVICE = (
    *("http", "insecure_http", "broker", "mqtt", "cafile", "cert", "key", "state", "objects", "s3"),
    *("s3_endpoint", "database", "workers", "region", "account", "log_level", "log_format"),
)
"""What `serve` is told."""


class Parser(argparse.ArgumentParser):
    """A command's arguments. SettingsError instead of an exit."""

    def __init__(self, program: str, usage: str, summary: str, examples: str, flags: tuple[str, ...]) -> None:
        super().__init__(
            prog=program,
            usage=usage,
            description=summary,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
        )
        self._flags = flags
        for name in flags:
            flag, text = FLAGS[name], FLAGS[name].help.replace("%", "%%")
            option = "--" + name.replace("_", "-")
            if flag.metavar is None:
                self.add_argument(option, dest=name, action=argparse.BooleanOptionalAction, help=text)
            else:
                self.add_argument(option, dest=name, metavar=flag.metavar, help=text)
        self.add_argument("--config", metavar="FILE", help="the settings file [sluice.toml, if there is one]")

    def read(self, arguments: list[str]) -> tuple[argparse.Namespace, dict[str, object]]:
        """What was given: everything, and the settings in it by name. SettingsError, or exit 0 for --help."""
        given, unknown = self.parse_known_args(arguments)
        if unknown:
            import difflib

            options = [option for action in self._actions for option in action.option_strings]
            near = difflib.get_close_matches(unknown[0].partition("=")[0], options, n=1)
            self.error(f"unknown argument {unknown[0]}" + (f": did you mean {near[0]}?" if near else ""))
        return given, {name: value for name, value in vars(given).items() if name in self._flags}

    def error(self, message: str) -> NoReturn:
        """Every usage error."""
        raise SettingsError(f"{message}\n{self.format_usage()}{self.prog} --help says more")
