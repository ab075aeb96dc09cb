"""Both doors held to their own descriptions by schemathesis: `make conformance`, outside of the test suite.

`scene` (real processes of both doors, with people, buckets and events to find), `runs` (one run of
schemathesis against a door), `hooks` (what it has to be told),
`examples` (those of the descriptions, sent), `__main__` (several seeds in turn, and the
table). `tests/e2e/test_conformance.py` is the part that the suite runs.
"""
