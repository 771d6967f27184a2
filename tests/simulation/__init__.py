"""Networks of full hosts in virtual time: the production code, over a memory network with latency."""
