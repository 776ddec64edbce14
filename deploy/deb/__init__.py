"""The Debian packages of gateway and aggregator: `python -m deploy.deb` writes build/*.deb. Begin with __main__.py."""
