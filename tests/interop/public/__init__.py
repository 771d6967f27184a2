"""py_p2pstack as libp2p's public interop runners take it in; see README.md."""
