"""The whole stack on one machine, without Docker.

In the order in which a start meets them. What is fetched and where it lies: `versions`, `account` (who runs a
server that refuses root), `paths`, `downloads`, `debian_packages`, `installation`. The two servers: `ports`,
`spawning`, `server` (a program of somebody else's, run for us), `private_files` (closed to others), `kafka`
with `kafka_configuration` and `kafka_probe`, `timescale` with `timescale_configuration` and
`postgres_leftovers`. The stack: `settings`, `titles` (what people
call its processes), `occupancy` (who holds a port), `rotation` (logs), `child` and
`servers` (one process each), `readiness`, `supervisor` (keeps them alive), `state` and `credentials` (what
others may know), `preparation` (what a server needs first), `leftovers` (of a supervisor that was killed),
`stack` (which ones, in which order), `doctor` (what may be wrong with all of this).
"""
