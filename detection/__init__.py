"""Windows in, incidents out: engines, thresholds, attribution, incidents, explanations.

What ships is what is evaluated: the agent and `training.evaluate` drive the same `Detector`. Nothing here opens a
capture, and a socket only `tensorrt_worker` and its client (`tensorrt_link`). Time is that of the
windows. Open `detector` first.
"""
