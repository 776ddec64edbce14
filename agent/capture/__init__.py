"""Hop 1 on the gateway: where frames come from, a live interface or capture files.

Read `source.py` first: what every live source gives. `ring_source.py` is the one that gateways use, `portable.py` the
slow one for machines without a ring, `replay.py` reads files. `opener.py` is the only module that imports Scapy.
"""
