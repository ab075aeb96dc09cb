"""What a door says of itself: /openapi.json, and the page that shows it.

``operations`` (the words in which a call is described), ``refusals`` (the forms of refusals, one for each
surface), ``schemas`` (the schemas that pydantic's models stand for), ``document`` (the document, made of
operations), ``pages`` (where it is served, with swagger-ui), ``fittings`` (the descriptions of the calls that
every door has). The calls of a surface are described beside its code: ``api.surfaces.described``,
``ingest.gateway.described``. docs/openapi.md tells how to describe a new one.
"""
