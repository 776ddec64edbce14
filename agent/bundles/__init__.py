"""Which bundle serves: where bundles are kept, how a new one is tried beside the old, and how the old comes back.

Open `swap.py` first: it is what the pipeline sees. `store.py` keeps bundles on disk and remembers which one was good;
`trial.py` compares two of them on the traffic of this gateway.
"""
