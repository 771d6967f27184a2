"""Raw transports: how bytes travel, before anything is secured.

`sockets` holds what any transport over stream sockets needs, `tcp` is the plain one, `websocket` what browsers
and proxies let through; `memory` stays inside the process and plays a network with latency, loss and partitions.
"""
