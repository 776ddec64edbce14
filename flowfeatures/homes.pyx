"""Which addresses are devices of ours: the home networks."""

import ipaddress

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

DEFAULT_HOME_NETS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10")
"""What is home where nobody says: the private and link-local ranges."""


cdef class HomeNets:
    """A few networks, given as CIDR texts; `address in nets` takes the 16 octets of a record.

    Raises ValueError where a text is no network.
    """

    def __cinit__(self, texts = DEFAULT_HOME_NETS):
        nets = [ipaddress.ip_network(text, strict=False) for text in texts]
        self.nets = <Net*> calloc(max(1, len(nets)), sizeof(Net))
        if self.nets == NULL:
            raise MemoryError("home nets")
        for net in nets:
            address, mask = net.network_address.packed, net.netmask.packed
            if net.version == 4:
                address, mask = bytes(10) + b"\xff\xff" + address, b"\xff" * 12 + mask
            memcpy(self.nets[self.count].address, <const char*> address, 16)
            memcpy(self.nets[self.count].mask, <const char*> mask, 16)
            self.count += 1

    def __dealloc__(self):
        free(self.nets)

    def __contains__(self, address):
        cdef bytes octets = bytes(address)
        if len(octets) != 16:
            raise ValueError(f"an address has 16 octets, got {len(octets)}")
        return self.holds(<const uint8_t*> <const char*> octets)

    cdef bint holds(self, const uint8_t* address) noexcept nogil:
        cdef int i
        cdef uint64_t[2] a
        memcpy(a, address, 16)
        for i in range(self.count):
            if (a[0] & self.nets[i].mask[0]) == self.nets[i].address[0] and (
                (a[1] & self.nets[i].mask[1]) == self.nets[i].address[1]
            ):
                return True
        return False
