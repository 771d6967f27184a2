"""Noise XX as libp2p speaks it: `/noise`. Source: libp2p/specs, noise; noiseprotocol.org revision 34.

`state` is the Noise Protocol Framework's own part and knows nothing of libp2p; `codec` is the handshake payload;
`machine` runs the three messages and proves identities; `records` is the transport phase.
"""

from py_p2pstack.security.noise.machine import NoiseHandshake as NoiseHandshake
from py_p2pstack.security.noise.machine import NoiseTransport as NoiseTransport
from py_p2pstack.security.noise.records import NoiseRecords as NoiseRecords
