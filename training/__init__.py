"""Networks, data sets, fit and evaluation: how the detector is taught and judged.

Open `splits.toml` first (which capture may do what), then `datasets` (captures -> labelled windows), `networks`, `fit`,
`thresholds` and `evaluate`. `tables` are the published data sets, apart from captures. Only `networks`, `fit` and what
they call import torch; `evaluate`, `shapes` and `stored` run without it.
"""
