"""Speed against the raw limits of the same machine. docs/bench.md tells how it measures and how to run it.

In reading order: ``scale`` (how much of everything), ``arithmetic`` (medians, canaries, ratios; pure),
``goals`` (what each ratio must reach), ``workload`` (one set of events as JSON bodies, records and COPY
rows), ``ground`` (servers, databases, topics), ``accounting`` (CPU and memory from /proc), ``processes``
(gateway, writer, query API, generators), ``loads`` (orders for the generators), ``publishing`` (records put
into the topic ahead of the clock), ``watching`` (what a query sees meanwhile), ``canary`` (raw COPY),
``recount`` (the oracle), ``figures`` (what a part hands back), then one file for each part: ``writer``,
``way``, ``gateway``, ``histogram``, ``latency``, ``memory``, ``queries`` (with ``stock``, what there is to
ask for, ``questions``, and ``explaining``, what was read for each), ``growth`` (what an event costs, and
how that grows), ``disk``; ``report`` (table and JSON). Run by themselves as processes: ``generator`` (with
``client``), ``echo``, ``plain_consumer``; by hand, for docs/: ``measured`` and ``pages`` (tables),
``plots``.
"""
