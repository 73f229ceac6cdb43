"""The service: streams over HTTP on one side, blocks over MQTT on the other."""
