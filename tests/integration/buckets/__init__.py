"""The calls of buckets through real sockets: every documented status, limits, invitations, other tenants."""
