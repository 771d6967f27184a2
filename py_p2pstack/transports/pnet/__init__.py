"""Private networks: every byte of a raw connection is scrambled with a key that all members share.

Under noise or TLS, not instead of them: who lacks the key gets no word in, and learns nothing but 24 random bytes.
`psk` reads the key's file, `xsalsa20` is the cipher (its bulk in C, by the extra `pnet`), `transport` wraps any raw
transport. Source: libp2p/specs, pnet.
"""

from py_p2pstack.transports.pnet.psk import decode_psk as decode_psk
from py_p2pstack.transports.pnet.psk import encode_psk as encode_psk
from py_p2pstack.transports.pnet.psk import load_psk as load_psk
from py_p2pstack.transports.pnet.transport import PnetTransport as PnetTransport
