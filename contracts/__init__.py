"""Formats that cross a process or a machine: classes, ground truth, bundle, alert, EVE line, samples, updates, orders.

Every format here is a strict pydantic model or one frozen table, and every error a program may end with stands in
`errors`; `program` and `terminal` are how it ends and what it may say. Nothing in this package opens a socket, scores a
window or knows a network. Open `classes` first, then `alert`.
"""
