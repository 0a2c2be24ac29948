"""TLS sockets, several to a job, with back-pressure, compression and a bandwidth limit."""
