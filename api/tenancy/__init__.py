"""Workspaces, users, buckets, keys: who owns what, and what happens to it as a whole.

Who comes in: ``attempts`` (how often something may be tried), ``passwords`` (argon2id, on threads of its
own), ``tokens`` (access and refresh tokens), ``mail``, ``outbox`` (mail that leaves after the answer),
``invitations``, ``accounts`` (signing in, registering, resets). What is theirs: ``secrecy`` (secrets that
are shown again), ``plans`` (limits), ``buckets``, ``members``, ``keys`` (of a bucket, and of a user),
``payment`` (the one interface to money), ``billing``, ``devices`` (registrations, retired nodes). By an
administrator's hand, for the command line: ``administration``, ``registry``. The end: ``log_ends`` (where
the events topic ends right now) and ``deletion`` (emptying a bucket for good, fenced there, or ending
it).
"""
