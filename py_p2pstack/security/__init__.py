"""Security protocols, each a pure handshake machine that ends in a record layer; the upgrader moves the bytes."""
