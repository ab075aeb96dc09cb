"""The door of PM2's monitoring agent: what it says over its WebSocket becomes events and node reports.

In the order in which an agent meets them: ``pairs`` (a bucket's public and secret id: what they allow),
``handshake`` (``POST /api/node/verifyPM2``), ``settling`` (when its link opens), ``links`` (all of them),
``link`` (its WebSocket), ``sharing`` (what they hold together), ``frames`` (which bytes are whose),
``packets`` (what comes over it).
"""
