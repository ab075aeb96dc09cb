"""What several tests share.

Servers: ``servers`` (the Kafka and the database of a run: given ones, or started for it), ``databases`` (a
migrated template, and a clone of it for each test), ``clock`` (a database's clock, set by the test),
``topics`` (topics of a test's own), ``proxy`` (a server that is slow, frozen, or cut off at the worst
moment). What is put there: ``records`` (on the topic, past the gateway), ``stored`` (in the database, by the
writer's own transaction), ``load`` (over HTTP, with every answer kept). Weir itself: ``processes`` (real
ones, with a bucket and its keys), ``doors`` (both doors as applications, without a server), ``api_door`` (the
query API on a socket, and callers of every kind), ``followers`` (of the live feed), ``mail`` (a folder of
mail, waited for; an SMTP server that takes mail, or hangs). Other people's programs: ``node_programs`` (npm
packages, pinned), ``pm2_machine`` (PM2 with an application and its agent). Judges: ``oracle`` (what was
acknowledged is stored, once), ``filter_oracle`` and ``filter_texts`` (what conditions mean, and how they are
written), ``scoped`` (whose rows a statement can see), ``explained`` (how the database goes about a
statement), ``bounds`` (a limit is tried twice), ``secret_search`` (secrets that a run made).
"""
