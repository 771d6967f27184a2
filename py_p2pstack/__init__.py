"""A libp2p-style peer-to-peer stack: secure hosts, streams and a Kademlia DHT on asyncio and trio."""
