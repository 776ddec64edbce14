"""A test network in Linux namespaces: real tools, real attacks, captures with their ground truth. Needs root.

Open `record` first: it plays a `plan`, drawn by `scenario` from a seed, on a `network`. `benign` and `attacks` hold
what hosts do, `services` what they offer, `truth` what is known afterwards.
"""
