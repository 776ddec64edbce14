"""Windows in, incidents out: engines, thresholds, attribution, incidents, explanations.

What ships is what is evaluated: the agent and `training.evaluate` drive the same `Detector`. Nothing here opens a
socket or a capture, and nothing reads a wall clock: time is the time of the windows. Open `detector` first.
"""
