"""The dialects that the query API speaks, one file each.

``fields`` (parameters as clients send them: numbers as texts, moments in two forms), ``parameters`` (models
of such parameters), ``answers`` (the receipt that an answer waits for, and what it had to leave out),
``requests`` (bodies, checked by models), ``oauth`` (signing in and out), ``buckets`` (a folder: buckets,
members, plans), ``keys`` (API keys of a bucket, and of a user), then ``bucket_events`` (events of a bucket:
list, histogram, names, deletion), ``devices`` (times and counts of a device's events), ``device_data``
(events of a stream by device), ``node_stats`` (a bucket's nodes on one day), ``registrations`` (devices
registered, nodes retired), ``primus`` (the live feed). ``described`` (a folder) says of all of them what
they take and answer.
"""
