"""The network: it dials, listens, admits connections within limits, and hands inbound streams to the router.

What decides is pure (`dial_ranker`, `backoff`, `black_hole`, `gater`, `resources`, `connection_manager`); what moves
bytes is thin (`swarm`, `dialer`, `connection`, `stream`, `router`).
"""
