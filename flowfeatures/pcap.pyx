"""The classic capture format: one link type, one clock, a header of 16 octets before each frame."""

from libc.stdint cimport uint32_t, uint64_t

from flowfeatures.errors import CaptureTruncated
from flowfeatures.frames cimport MAX_FRAME_BYTES, FrameBlock
from flowfeatures.octets cimport Octets
from flowfeatures.walk cimport Interface, Walk, time_us

MAGIC = {       # octets as they stand in the file: (big endian, decimal digits of the fraction)
    b"\xa1\xb2\xc3\xd4": (True, 6), b"\xd4\xc3\xb2\xa1": (False, 6),
    b"\xa1\xb2\x3c\x4d": (True, 9), b"\x4d\x3c\xb2\xa1": (False, 9),
}


cdef class PcapWalk(Walk):
    """The frames of a pcap. Raises UnknownLinkType at once where its link type is not decoded."""

    def __init__(self, Octets octets, str name, bytes magic):
        octets.big_endian, digits = MAGIC[magic]
        if not octets.fetch(24):
            if octets.source.is_stopped:
                return
            raise CaptureTruncated(f"{name}: ends inside its header, after {octets.at_hand} of 24 octets")
        # The upper bits tell of a frame check sequence, not of the link type.
        self.add_interface(octets.u32(20) & 0xFFFF, 0, digits, 0)
        if not self.known_links:
            raise self.unknown()
        octets.take(24)

    cdef int fill(self, FrameBlock block) except -1:
        cdef Octets octets = self.octets
        cdef Interface* interface = self.interfaces
        cdef uint32_t captured
        cdef uint64_t units
        if interface == NULL:       # stopped before the header had come
            return 0
        units = 1_000_000_000 if interface.resolution == 9 else 1_000_000
        while block.count < block.capacity and self.has(block, 16):
            captured = octets.u32(8)
            if captured > MAX_FRAME_BYTES:
                return self.stop(
                    block, self.broken(f"captured length {captured}, wanted at most {<int> MAX_FRAME_BYTES}")
                )
            if not self.has(block, 16 + captured):
                return 0
            self.put(
                block, interface, 16, captured, octets.u32(12),
                time_us(interface, octets.u32(0) * units + octets.u32(4)),
            )
            octets.take(16 + captured)
        return 0
