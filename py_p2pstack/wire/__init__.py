"""Bytes that every protocol shares: unsigned varints, bounded framing, and the generated protobuf modules."""
