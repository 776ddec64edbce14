"""What `penstock doctor` looks at, one module per part of the machine; each check gives findings and never raises.

A finding says what was seen, whether that is good, and what to do. Nothing here changes anything.
"""
