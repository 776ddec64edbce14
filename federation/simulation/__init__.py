"""Many clients on one machine, by our own loop or by Flower's: the same step, so that the figures can be held together.

Read `clients` (one client's step), then `fleet` (rounds of them, FedAvg), then `flower` (the same as a ClientApp and a
ServerApp). Needs torch where whole networks travel, the extra `federate` for Flower. Nothing of a gateway runs here.
"""
