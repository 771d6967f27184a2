"""Stream handlers, equals and strangers to each other: what one needs of another it declares as a Protocol of its own."""
