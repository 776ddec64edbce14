"""Hop 1 on the gateway: where frames come from, a live interface or capture files.

Read `live.py` first, the loop, then `source.py`: what every live source gives. `open_live.py` takes the best there is:
`ring_source.py` is the one that gateways use, over one `ring_socket.py` after the other, `portable.py` the slow one for
machines without a ring. `accounting.py` and `report.py` say where every frame went. `replay.py` reads files instead.
`opener.py` is the only module that imports Scapy.
"""
