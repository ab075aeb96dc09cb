"""One file a revision, oldest first: `0001_spine`, `0002_tenancy`, `0003_devices`, `0004_rights`,
`0005_superusers`, `0006_built`, `0007_stream_names`.
"""
