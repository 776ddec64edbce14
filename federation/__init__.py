"""Learning across gateways: kilobytes of a network's head travel, never a packet, a window or an address.

To read it go with a delta: `gateway.labels` (what a window is taken for), `gateway.learn` (the head, in numpy),
`gateway.gate` (whether it may leave), `privacy.protect` (what of it leaves), `contracts.update` (its octets),
`aggregator.rounds` (a round, on disk), `aggregator.strategies` (many updates, one head), `aggregator.release` (whether
that head may be used). The agent and this package know nothing of each other; they meet on disk.
"""
