"""Downloads, resumes and verifies files over MQTT. Imports nothing, so that MicroPython loads only what it uses."""
