"""Stream handlers, equals and strangers: what one needs of another it declares as a Protocol of its own."""
