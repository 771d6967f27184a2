"""Datastores: where what must survive is kept.

`MemoryDatastore` forgets with its process; `SqliteDatastore` keeps everything in one file. `DatastorePart` gives one
user of a datastore a room of its own in it. All keep the promises of `core.datastore`.
"""

from py_p2pstack.storage.memory import MemoryDatastore as MemoryDatastore
from py_p2pstack.storage.part import DatastorePart as DatastorePart
from py_p2pstack.storage.sqlite import SqliteDatastore as SqliteDatastore
