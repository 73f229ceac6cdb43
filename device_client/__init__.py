"""Downloads, resumes and verifies files over MQTT. Imports nothing: MicroPython loads only what it uses."""
