"""The protocol itself: topics, messages, blocks, bitmaps, errors, limits. No I/O, no imports."""
