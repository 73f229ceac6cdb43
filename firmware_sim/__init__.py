"""Simulated devices: flash, boot loader, power cuts, bad links, serial gateway, boards and fleets."""
