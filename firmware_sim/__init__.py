"""Simulated microcontrollers: flash, boot loader, links and fleets."""
