"""Workspaces, users, buckets, keys: who owns what, and what happens to it as a whole.

``administration`` (made by an administrator's hand, for the command line), ``log_ends`` (where the events
topic ends right now) and ``deletion`` (emptying a bucket for good, fenced there).
"""
