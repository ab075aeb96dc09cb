"""The doors of the query API, and what every door has in common.

In the order in which a request meets them: ``http`` (fittings of every HTTP door, the gateway's too:
serving, request ids, bodies, authentication, problems, health), ``surfaces`` (one file for each dialect),
``tenancy`` (who owns what), ``live`` (what has just been accepted, to whoever is connected), ``accounts``
(accounts and buckets put together), ``front`` (two pages for a browser), ``watch`` (the live chart), ``app``
(all of it together, with its clients), ``process`` (the query API's process).
"""
