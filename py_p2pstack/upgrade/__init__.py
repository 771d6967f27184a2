"""From a raw pipe of bytes to a secured, multiplexed connection: which protocols, in which order, within which time."""
