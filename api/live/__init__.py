"""The live feed: what has just been accepted, to whoever is connected and may read it.

In the order in which a subscriber meets them: ``rights`` (what a credential may follow), ``patterns``
(which events a subscription wants), ``subscribers`` (who is connected, and what waits for each), ``tail``
(the end of the events topic, read for them), ``frames`` (an event as it is sent), ``feeds`` (all of it
together). The surface that speaks with the subscriber is ``surfaces.primus``.
"""
