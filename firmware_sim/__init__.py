"""The place of simulated microcontrollers: flash, boot loader, links, fleets. Nothing is here yet."""
