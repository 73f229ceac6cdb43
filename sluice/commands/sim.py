"""`sluice sim`: commands of its own, a module `sim_…` each. What they are, docs/simulators.md says."""

COMMANDS = {
    "fleet": "many devices that download a stream's file over a real broker",
    "update": "many devices that take OTA updates, and are held against the job",
    "link": "a relay in front of a broker that does to MQTT what a bad link does",
    "links": "the kinds of links there are",
    "power": "an update whose power is cut in every flash operation in turn",
    "board": "an update of a board whose firmware is a process, and is killed at random instants",
    "microbit": "a download on an emulated micro:bit with 16 KB of RAM",
}
EXAMPLES = """examples:
  sluice sim fleet --stream fw --devices 200 --link lte-m
  sluice sim update --group masts --id v2 --public-key signer.pub --fail-self-test 3%
  sluice sim link --link bad-wifi --broker mqtt://127.0.0.1:1883
  sluice sim power
"""
