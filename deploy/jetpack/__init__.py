"""Jetsons: which versions each JetPack takes, and the check that they exist (`make matrix`). Begin with __main__.py."""
