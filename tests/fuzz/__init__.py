"""Hostile bytes for everything that reads what others write: `make fuzz`, outside of the test suite.

`targets` (what is fed, and what must hold whatever comes), `seeds` (bytes to begin with, and words of the
dialects), `campaign` (one target under atheris), `__main__` (all of them in turn, and the table).
An input that breaks a target is kept in `corpus/<target>/`; `tests/unit/test_fuzz_targets.py` feeds every
file there on each run of the suite.
"""
