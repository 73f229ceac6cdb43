"""From a device's request to its blocks: decode, plan, schedule, write."""
