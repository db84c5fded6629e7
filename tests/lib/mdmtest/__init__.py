"""Parts that the integration tests and tools/quickstart share.

Nothing here uses code of the product: plists are made with plistlib, HTTP/2
with python3-h2, certificates with python3-cryptography, so that a fault in
the product's own parsers cannot hide itself.
"""
