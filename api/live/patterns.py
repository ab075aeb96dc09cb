"""Which events a subscription wants, by patterns of their keys. Pure.

A key is words with colons between them (``human:event``). In a pattern ``*`` stands for any one word and
``**`` for any number of them; an empty pattern, or none at all, wants everything.
"""

from __future__ import annotations

from collections.abc import Sequence


def wanted(patterns: Sequence[str], key: str) -> bool:
    """Whether a subscription with these patterns gets what goes by ``key``."""
    if not patterns or "" in patterns:
        return True
    words = key.split(":")
    return any(_fits(pattern.split(":"), words) for pattern in patterns)


def _fits(pattern: Sequence[str], words: Sequence[str]) -> bool:
    """Whether a pattern fits, in time of (words of the pattern) x (words of the key) at most."""
    # Which beginnings of ``words``, by length, the pattern fits so far.
    reached = [True] + [False] * len(words)
    for part in pattern:
        following = [False] * (len(words) + 1)
        for length, fits in enumerate(reached):
            if part == "**":
                following[length] = fits or (length > 0 and following[length - 1])
            elif length > 0:
                following[length] = reached[length - 1] and part in ("*", words[length - 1])
        reached = following
    return reached[-1]
