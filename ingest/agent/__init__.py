"""This machine's node reports and events, and a client library that anybody may use.

In the order in which an event meets them: ``snapshots`` (what psutil says), ``readings`` (which events
that makes; pure), ``stamps`` (an id, a moment, one line of JSON; from here on an event never changes),
``segments`` (lines on disk that can be checked), ``buffer`` (the bounded queue made of them), ``answers``
(what an answer of the gateway means for a batch; pure), ``sender`` (batches in order, repeated until they
are answered), ``client`` (all of this behind ``put``), ``process`` (the agent itself).

The guarantee: what ``put`` returned for reaches the gateway at least once and always with the same id and
moment, so it is stored once; whatever is given up (refused, or pushed out of a full buffer) is counted
and logged with its reason.
"""
