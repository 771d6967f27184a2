"""Speed, side by side: ours, py-libp2p and go-libp2p in one run, two processes each, over loopback."""
