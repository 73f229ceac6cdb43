"""A boot loader in miniature: signed images, two slots, a log of what was tried, and what to run."""
