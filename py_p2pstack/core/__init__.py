"""The seams: small `typing.Protocol`s and value types that let each layer be built, tested and replaced alone.

    application
      │  Host ── Peerstore, Network, Mux (protocol router), event bus
    Stream / Connection        core.stream, core.connection
      │
    MuxedConnection            core.muxer       what a transport hands to the swarm, finished
      │
    RecordLayer / Handshake    core.security    sans-IO: bytes in, bytes out
      │
    RawConnection              core.transport   a non-blocking pipe of bytes

Nothing here does I/O or decides anything.
"""
