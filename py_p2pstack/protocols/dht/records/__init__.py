"""Records that prove themselves, so that any peer may keep them and none can forge them.

dag_cbor   the strict encoding inside IPNS records
ipns       a name points to a path; the public networks' own
owned      any value under a key that belongs to its signer; what most applications want
"""
