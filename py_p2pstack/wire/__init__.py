"""Bytes that every protocol shares: unsigned varints, bounded framing, buffers, and the generated protobuf modules."""
