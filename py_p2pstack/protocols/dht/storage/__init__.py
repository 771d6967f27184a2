"""What a DHT node keeps: values, providers, the keys it provides itself, and a picture of its routing table.

All of it lies in a `core.datastore.Datastore`, one row format in `rows`. Nothing read from there is trusted: a row that
cannot be read is removed with a warning, and ages are checked on every read.
"""

from py_p2pstack.protocols.dht.storage.providers import ProviderStore as ProviderStore
from py_p2pstack.protocols.dht.storage.rows import StoredValue as StoredValue
from py_p2pstack.protocols.dht.storage.snapshot import TableSnapshot as TableSnapshot
from py_p2pstack.protocols.dht.storage.values import ValueStore as ValueStore
