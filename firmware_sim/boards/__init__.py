"""Whole boards: flash in a file, a boot loader, and firmware in a process of its own that can be killed."""
