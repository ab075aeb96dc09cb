"""Questions to the store: counts, events and names, each answered from the cheapest source that is exact.

In the order in which a question meets them: ``interval`` (the grid of a histogram), ``request`` (what is
asked: scope, range, filters, and their bounds), ``receipts`` (wait for one's own writes), ``plan`` (which
part of a range is read from which rung of the ladder, and which from raw rows), ``pages`` (where a page of
single events lies), ``sql`` (the statements, the tenancy predicate in each part), ``execute`` (one snapshot,
one deadline, retries), then what comes back: ``series`` (points of a histogram), ``events`` (rows, newest
first), ``metadata`` (names and counts by app), ``servers`` (which machines were heard from), ``edges`` (when
exactly at first and at last), ``devices`` (which devices a bucket knows), ``journal`` (times and counts of a
device's events), ``streams`` (events of several devices, by what ``filters`` lets through of their data),
``uptime`` (what nodes reported of a day).
Imports schema only. docs/query.md, docs/streams.md, docs/devices.md and docs/node-statistics.md tell the
rules in words.
"""
