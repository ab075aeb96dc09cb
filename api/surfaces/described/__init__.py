"""The calls of the surfaces, described for /openapi.json: a file for each, its calls in ``OPERATIONS``.

``steps`` (what calls have in common: the bucket of a path, the receipt, the body's refusals), ``oauth``,
``bucket_answers`` (what the calls of buckets answer), ``buckets`` (the bucket itself and its plan),
``people`` (its members), ``keys``, ``bucket_events``, ``devices``, ``device_data``, ``node_stats``,
``registrations``, ``primus``, and ``whole`` (all of it, as the query API serves it). A route without a
description fails ``tests/unit/http/test_descriptions.py``.
"""
