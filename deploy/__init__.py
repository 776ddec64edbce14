"""What puts Penstock on a machine: install.sh, the .deb, constraints per JetPack. Not part of what is installed."""
