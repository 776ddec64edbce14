"""The process on the gateway: captures in, alerts out.

Open `pipeline` first: it is the path of a packet, top to bottom. `commands.replay` builds its objects for capture
files, `live.service` those for interfaces; `cli` reads the command line; `delivery` is the last hop.
"""
