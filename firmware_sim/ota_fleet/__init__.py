"""A fleet of devices that run the OTA agent, each with two slots and a boot loader: see `run`."""
