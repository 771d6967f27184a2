"""Identify and identify/push: who is there, what it speaks, where it listens, and how it sees us.

`codec` turns messages into values and back, `observed` decides which observed addresses to believe, `service` asks
every new connection, answers, and pushes our changes. Source: libp2p/specs, identify.
"""

from py_p2pstack.protocols.identify.observed import ObservedAddresses as ObservedAddresses
from py_p2pstack.protocols.identify.service import IdentifyConfig as IdentifyConfig
from py_p2pstack.protocols.identify.service import IdentifyService as IdentifyService
