"""Fittings of every HTTP door, the gateway's and the query API's.

In the order in which a request meets them: ``serving`` (the listening socket, the stop), ``connections`` (how
many there may be, slow headers, answers that nobody reads), ``origins`` (web pages that may call),
``problems`` (the request's id, and the one place that turns an error into an answer), ``authentication`` (who
is calling, and may they), ``readable`` (all buckets that a caller may read), ``bodies`` (a body with bounds,
and JSON out of it), ``encodings`` (a packed body, unpacked with bounds), ``pieces`` (a long answer, sent
while it is made), ``health`` (/healthz, /readyz, /metrics), ``openapi`` (a folder: what a door says of
itself, and the page that shows it).
"""
