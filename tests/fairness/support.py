"""What the tests here share: a published file, and the service's counters."""

import random
from pathlib import Path
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.sluice.support import Service, sluice


def publish(folder: Path, service: Service, stream: str, size: int) -> bytes:
    """A stream with one file of that size; its bytes."""
    data = random.Random(stream).randbytes(size)
    (folder / "file.bin").write_bytes(data)
    flags = ["--http", service.http, "--state", service.state]
    done = sluice(["publish", "file.bin", "--stream", stream, *flags], folder)
    assert done.returncode == 0, done.stderr
    return data


def metric(service: Service, name: str, **labels: str) -> float:
    """The value that /metrics shows now."""
    with urlopen(f"http://{service.http}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and sample.labels.items() >= labels.items():
                return float(sample.value)
    raise AssertionError(f"no metric {name} {labels}")
