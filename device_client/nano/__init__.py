"""The client of a microcontroller with 9 KB of heap and a serial line: MicroPython 1.9.2 on a micro:bit.

It shares no code with `chunker`. `UNITS` are its modules in the order in which their sources are sent over
the raw prompt: without comments and annotations, names shortened, under 500 bytes each, since the compiler
takes up to five bytes of heap for one of source. They run in one namespace; their imports of each other fall
away.

A serial-to-MQTT gateway (`firmware_sim.gateway` is one) carries messages; what to ask for, and whether an
answer is right, is decided here. CBOR only, blocks of 256 bytes, in order, one buffer. The board has no room
for a file: on one that has, `download.run` is the place to write each block, before it counts as taken.
"""

UNITS = ("serial", "sending", "receiving", "decoding", "asking", "download")
