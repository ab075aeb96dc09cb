"""Everything that can break is broken under load, and afterwards all that was promised is counted.

``make chaos`` runs a campaign; docs/GUARANTEES.md tells what it tries and what came out. In reading order:
``schedule`` (which faults strike when, from a seed; pure), ``mounts`` (small disks), ``given`` (a database
server of somebody else's), ``slots`` (Weir's processes and their supervisor), ``ground`` (all that is broken,
and the proxies between), ``content`` (what is sent; pure), ``journal`` (every request with its answer),
``load`` (who sends), ``waiting``, ``scene`` (a round, as a fault sees it), ``faults`` (a file a family),
``oracle`` and ``surfaces`` (what must hold), ``campaign`` (round after round), ``report`` (table and JSON),
``page`` (Markdown).
"""
