"""Figures of merit with what their sample supports, and the plots of them.

Open `outcomes` first (what a detector made of captures), then `rates` (bounds, TPR at a given FPR, AUC), `confusion`
(its matrix, precision, recall, F1, MCC) and `plots` (PNG files; the only module here that needs matplotlib). Nothing in
here reads a capture or scores a window.
"""
