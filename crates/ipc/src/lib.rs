//! Cap'n Proto over a local socket: the server's end, and a client.
