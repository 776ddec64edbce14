"""The Debian package: `python -m deploy.deb` writes build/penstock_VERSION_ARCH.deb. Begin with __main__.py."""
