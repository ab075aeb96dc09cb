"""The dialects that the query API speaks, one file each.

``fields`` (parameters as clients send them: numbers as texts, moments in two forms), then
``bucket_events`` (events of a bucket: list, histogram, names, deletion).
"""
