"""What several tests share.

servers.py    the Kafka and the database of a run: given ones, or started for it
databases.py  a migrated template, and a clone of it for each test
topics.py     topics of a test's own
secret_search.py  secrets that a run made, and the search for them
scoped.py     whose rows a statement can see, read from its text
mail.py       a folder of mail, waited for; an SMTP server that takes mail, or hangs
api_door.py   the query API on a socket, and callers of every kind
pm2_machine.py  PM2 with an application and its agent, as published
"""
