"""The published tables, NSL-KDD and CICIDS2017: rows read and cleaned, split honestly, judged by any learner.

Open `table` first (what a reader returns), then `nsl_kdd` and `cicids2017` (the readers), `sides` (splits and the check
that refuses a leaking one), `encode`, `learners`, `metrics`. What is learned here never meets the agent: the published
columns are another tool's. The programs are `benchmarks.nsl_kdd` and `benchmarks.cicids2017`.
"""
