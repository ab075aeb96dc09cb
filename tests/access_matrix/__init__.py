"""The access matrix: every route of both HTTP doors, every kind of caller, and what is answered.

The table is written by hand from the rights that the contract gives; nothing in it is computed from the
code that it judges. ``columns`` (who calls), ``rights`` (what each of them gets where such a right is asked
for), ``calls`` (every route with the right that it asks for), ``attempts`` (identifiers of another tenant, in
every parameter that takes one), ``page`` (all of it to read: ``python -m tests.access_matrix``), then
``tenants`` (who and what there is), ``world`` (a deployment with them, and calls to its doors).
``tests/integration/access`` makes the calls.
"""
