"""What every implementation of a seam must do, as functions that assert it; a test runs each on its own.

    @pytest.mark.parametrize("claim", RAW_TRANSPORT, ids=lambda claim: claim.__name__)
    async def test_contract(claim): await claim(RawTransportCase(transport=TcpTransport(), …))

A new transport, security, muxer or datastore is done when it keeps its contract.
"""

from py_p2pstack.testing.contracts.datastore import DATASTORE as DATASTORE
from py_p2pstack.testing.contracts.datastore import OpenDatastore as OpenDatastore
from py_p2pstack.testing.contracts.muxer import MUXER as MUXER
from py_p2pstack.testing.contracts.muxer_case import MuxerCase as MuxerCase
from py_p2pstack.testing.contracts.raw_transport import RAW_TRANSPORT as RAW_TRANSPORT
from py_p2pstack.testing.contracts.raw_transport import RawTransportCase as RawTransportCase
from py_p2pstack.testing.contracts.raw_transport import fill as fill
from py_p2pstack.testing.contracts.raw_transport import receive as receive
from py_p2pstack.testing.contracts.raw_transport import receive_all as receive_all
from py_p2pstack.testing.contracts.raw_transport import receive_exactly as receive_exactly
from py_p2pstack.testing.contracts.raw_transport import send_all as send_all
from py_p2pstack.testing.contracts.security import SECURITY as SECURITY
from py_p2pstack.testing.contracts.security_case import SecurityCase as SecurityCase
