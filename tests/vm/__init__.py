"""Penstock installed, killed, upgraded and removed on a booted Debian, in a virtual machine without KVM: `make vm`."""
