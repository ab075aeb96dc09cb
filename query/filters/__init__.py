"""What a caller may ask of an event's data: rules, exclusions and filters, from text to SQL. Pure.

In the order in which a filter passes them: ``pointing`` (refusals that point at the character), ``scalars``
(texts, numbers, true, false, null), ``tags`` (names of places in the data, ``events.size.width``), ``rules``
(entries such as ``size = 3``), ``trees`` (the JSON filters), ``conditions`` (what all three become: small
frozen classes, and how many there may be), ``compile`` (conditions as SQL over jsonb, every value a
parameter). docs/streams.md tells the language.
"""
