"""What goes through the pipes arrives as it was."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from broker_bridge.mqtt.address import BrokerAddress
from broker_bridge.settings import BrokerSettings, Permission, ServiceSettings, StorageSettings
from broker_bridge.workers.wire import line, plain, typed
from sluice.settings import Settings

TEXT = st.text(max_size=20)
NAMES = st.lists(TEXT, max_size=3).map(tuple)


@given(
    st.builds(
        ServiceSettings,
        state=TEXT.map(Path),
        database=st.none() | TEXT,
        workers=st.integers(1, 64),
        permissions=st.lists(st.builds(Permission, streams=NAMES, things=NAMES), max_size=3).map(tuple),
        broker=st.builds(BrokerSettings, url=st.none() | TEXT, cafile=st.none() | TEXT.map(Path)),
        storage=st.builds(StorageSettings, objects=st.none() | TEXT.map(Path), retries=st.integers(1, 20)),
    )
)
def test_settings(settings: ServiceSettings) -> None:
    received = line({"settings": plain(settings, ServiceSettings)})
    assert received.count(b"\n") == 1
    assert typed(ServiceSettings, json.loads(received)["settings"]) == settings


def test_of_the_commands_settings_those_of_the_service() -> None:
    settings = Settings(stream="fw", state=Path("/x"), workers=3)
    assert typed(ServiceSettings, plain(settings, ServiceSettings)) == ServiceSettings(
        state=Path("/x"), workers=3
    )


def test_the_brokers_address_with_its_password() -> None:
    address = BrokerAddress.parse("mqtts://u:p%20w@[::1]:99")
    assert typed(BrokerAddress, plain(address)) == address
