"""Jobs over MQTT."""
