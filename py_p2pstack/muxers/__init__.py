"""Stream multiplexers: pure machines (`yamux`), and the one session that drives any of them over a raw connection."""
