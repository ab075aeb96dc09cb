"""How a body becomes events: one file for each dialect.

``reading`` (what they share: the forms of a body, the fast way and the exact way), ``splitting`` (arrays
with an element that is no JSON), ``events``
(``POST /v1/events``), ``cloud_events`` (CloudEvents there), ``nodes`` (``POST /v1/nodes``), ``devices``
(``POST /devices/…``), ``event_create`` (``POST /event_create``). A dialect is a function from a body and its
media type to a ``Batch``; one that brings events of another form makes the same ``Event`` objects.
"""
