"""Jobs over MQTT: what devices ask and are told, the events of jobs, and the engine at work."""
