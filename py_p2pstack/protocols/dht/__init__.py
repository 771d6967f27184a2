"""The Kademlia DHT: who is nearest to a key, and where a peer is. Wire-exact with libp2p's `/kad/1.0.0`.

codec       bytes ↔ Message
handlers    what we answer without waiting, a pure function of the table and the address book
messenger   one reused stream per peer
queries     drives a kademlia.Lookup with at most α requests in flight, whatever they ask
operations  what an application asked for, and who listens to it
trace       what was told, as lines of JSON, and back
lookups     begins lookups: seeds, time, bookkeeping
found       what a running operation finds, as an iterator
value_handlers  how a server keeps and tells values
local_node  our node as all of these see it: host, table, line to others
values      putting, getting, searching; correcting those who hold a worse value
providers   providing content, and finding who does
announcement  one key being announced to its nearest peers
optimistic  decides when a provide need not wait for the end of its lookup
sweep       provides our keys again, by region; sweep_plan decides where and when
provider_handlers  how a server keeps and tells providers
content     CIDs and multihashes, the keys of content
tally       which of the values that came is the best
republish   puts again what we publish, removes what is too old
storage     what a node keeps, typed, over a datastore
owning      puts the next version of a record that is ours
validators  which values may lie under which keys; records that prove themselves; key_text
crowds      asks the wider region of a key that is surrounded
admission   who enters the routing table, who leaves it
refresh     keeps the table filled: at the start, every ten minutes, and when it runs low
server      inbound streams, bounded in number, time and size
modes       whether we serve or only ask, and when that changes
parts       what a DHT is made of, and its life
service     Dht, which is all an application needs
dual        a Dht of the internet and one of the private networks, as one
"""

from py_p2pstack.protocols.dht.config import DhtConfig as DhtConfig
from py_p2pstack.protocols.dht.dual import DualDht as DualDht
from py_p2pstack.protocols.dht.events import AddingPeer as AddingPeer
from py_p2pstack.protocols.dht.events import DialingPeer as DialingPeer
from py_p2pstack.protocols.dht.events import FinalPeer as FinalPeer
from py_p2pstack.protocols.dht.events import LookupEnded as LookupEnded
from py_p2pstack.protocols.dht.events import LookupEvent as LookupEvent
from py_p2pstack.protocols.dht.events import LookupStarted as LookupStarted
from py_p2pstack.protocols.dht.events import LookupUpdated as LookupUpdated
from py_p2pstack.protocols.dht.events import PeerResponse as PeerResponse
from py_p2pstack.protocols.dht.events import Provider as Provider
from py_p2pstack.protocols.dht.events import QueryError as QueryError
from py_p2pstack.protocols.dht.events import QueryEvent as QueryEvent
from py_p2pstack.protocols.dht.events import SendingQuery as SendingQuery
from py_p2pstack.protocols.dht.events import Value as Value
from py_p2pstack.protocols.dht.events import watching as watching
from py_p2pstack.protocols.dht.found import Found as Found
from py_p2pstack.protocols.dht.optimistic import OptimisticConfig as OptimisticConfig
from py_p2pstack.protocols.dht.owning import put_owned as put_owned
from py_p2pstack.protocols.dht.provider_config import ProviderConfig as ProviderConfig
from py_p2pstack.protocols.dht.providers import ProvideResult as ProvideResult
from py_p2pstack.protocols.dht.puts import PutResult as PutResult
from py_p2pstack.protocols.dht.records.ipns import IpnsRecord as IpnsRecord
from py_p2pstack.protocols.dht.records.owned import OwnedRecord as OwnedRecord
from py_p2pstack.protocols.dht.security_config import SecurityConfig as SecurityConfig
from py_p2pstack.protocols.dht.service import Dht as Dht
from py_p2pstack.protocols.dht.validators import BlankValidator as BlankValidator
from py_p2pstack.protocols.dht.validators import Validator as Validator
from py_p2pstack.protocols.dht.validators import Validators as Validators
from py_p2pstack.protocols.dht.validators import default_validators as default_validators
from py_p2pstack.protocols.dht.validators import public_validators as public_validators
