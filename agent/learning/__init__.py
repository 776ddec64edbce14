"""What the agent does for federation: windows kept, files carried to the broker and back, roll-outs taken. No learning.

Open `learning.py` first: it builds the rest and is what `live/service.py` knows. Off unless `[federation] enabled`.
"""
