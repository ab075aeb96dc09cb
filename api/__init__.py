"""The doors of the query API, and what every door has in common.

In the order in which a request meets them: ``http`` (fittings of every HTTP door, the gateway's too:
serving, request ids, bodies, problems, health), ``tenancy`` (who is calling and what they may),
``surfaces`` (one file for each dialect), ``process`` (the query API's process).
"""
