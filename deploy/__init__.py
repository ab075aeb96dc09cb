"""How Weir gets onto machines and is kept running there.

In the order in which a person meets them: `cli` (the `weir` command), `local` (the whole stack on one
machine, without Docker), `reference` (the pages of docs/ that are made from the code).
"""
