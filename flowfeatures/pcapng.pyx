"""The block format: sections, each with its byte order and its interfaces, each interface with its clock.

Blocks of other kinds are passed over without being held, however large they are. The trap: packet and interface
blocks must be held whole, so a length beyond MAX_BLOCK_BYTES is refused; whether the file ends first is found out before.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flowfeatures.errors import CaptureTruncated
from flowfeatures.frames cimport MAX_FRAME_BYTES, FrameBlock
from flowfeatures.octets cimport Octets
from flowfeatures.walk cimport Interface, Walk, time_us

MAGIC = b"\x0a\x0d\x0d\x0a"

cdef enum:
    SECTION_HEADER = 0x0A0D0D0A
    INTERFACE = 1
    OBSOLETE_PACKET = 2
    SIMPLE_PACKET = 3
    ENHANCED_PACKET = 6
    MAX_BLOCK_BYTES = MAX_FRAME_BYTES + (1 << 17)   # a frame and its options, of which each may have 64 KiB
    UNKNOWN_LINK = 0xFFFFFFFF


cdef class PcapngWalk(Walk):
    """The frames of a pcapng. Raises UnknownLinkType at its end where no interface's link type is decoded."""

    cdef object refused     # what to say of the block that is owed, should it turn out to be whole

    cdef int fill(self, FrameBlock block) except -1:
        cdef Octets octets = self.octets
        cdef uint32_t kind, length
        while block.count < block.capacity:
            if (octets.owed or self.refused is not None) and not self.pass_over(block):
                return 0
            if not self.has(block, 12):
                break
            kind = octets.u32(0)
            if kind == SECTION_HEADER and not self.begin_section():
                return self.stop(block, self.broken("section header without a byte-order magic"))
            length = octets.u32(4)
            if length < 12 or length % 4:
                return self.stop(block, self.broken(f"block length {length}, wanted a multiple of 4 from 12 up"))
            if kind != INTERFACE and kind != ENHANCED_PACKET and kind != SIMPLE_PACKET and kind != OBSOLETE_PACKET:
                octets.skip(length)
            elif length > MAX_BLOCK_BYTES:
                if block.count:
                    return 0
                self.refused = self.broken(
                    f"packet or interface block of {length} octets, wanted at most {<int> MAX_BLOCK_BYTES}"
                )
                octets.skip(length)
            else:
                if not self.has(block, length):
                    return 0
                problem = self.take(block, kind, length - 12)
                if problem is not None:
                    return self.stop(block, self.broken(problem))
                octets.take(length)
        if (
            self.interfaces_seen and not self.known_links and not block.count and not octets.at_hand
            and not octets.source.is_stopped
        ):
            raise self.unknown()
        return 0

    cdef bint pass_over(self, FrameBlock block) except -1:
        """Return whether the rest of a block was passed over; if not, deliver first, or all is read."""
        if block.count:
            return False
        if not self.octets.settle():
            if self.octets.source.is_stopped:
                return False
            raise self.broken(f"the file ends here: {self.octets.owed} octets of a block are missing", CaptureTruncated)
        if self.refused is not None:
            raise self.refused
        return True

    cdef bint begin_section(self) noexcept:
        """Take the section's byte order; return whether it has one."""
        cdef const uint8_t* order = self.octets.at + 8
        cdef bint is_big = order[0] == 0x1A and order[1] == 0x2B and order[2] == 0x3C and order[3] == 0x4D
        if not is_big and not (order[0] == 0x4D and order[1] == 0x3C and order[2] == 0x2B and order[3] == 0x1A):
            return False
        self.octets.big_endian = is_big
        self.interface_count = 0
        return True

    cdef object take(self, FrameBlock block, uint32_t kind, uint32_t length):
        """Handle one block with a body of `length` octets; return what is wrong with it, or None."""
        cdef Octets octets = self.octets
        cdef uint32_t number, captured
        cdef Interface* interface
        cdef Interface nowhere
        if kind == INTERFACE:
            if length < 8:
                return f"interface block of {length} octets, wanted 8"
            return self.take_interface(length)
        if kind == SIMPLE_PACKET:
            if length < 4 or not self.interface_count:
                return "simple packet without an interface or a length"
            interface = &self.interfaces[0]
            captured = octets.u32(8)
            if interface.snap_bytes:
                captured = min(captured, interface.snap_bytes)
            if captured > length - 4:
                return f"captured length {captured} in a block with {length - 4} octets of data"
            return self.put_whole(block, interface, 12, captured, octets.u32(8), self.last_us)
        if length < 20:
            return f"packet block of {length} octets, wanted 20"
        number = octets.u32(8) if kind == ENHANCED_PACKET else octets.u16(8)
        captured = octets.u32(20)
        if captured > length - 20:
            return f"captured length {captured} in a block with {length - 20} octets of data"
        if number < self.interface_count:
            interface = &self.interfaces[number]
        else:
            nowhere.link_type, nowhere.resolution, nowhere.offset_s = UNKNOWN_LINK, 6, 0
            interface = &nowhere
        return self.put_whole(
            block, interface, 28, captured, octets.u32(24),
            time_us(interface, <uint64_t> octets.u32(12) << 32 | octets.u32(16)),
        )

    cdef object put_whole(
        self, FrameBlock block, Interface* interface, size_t after, uint32_t captured, uint32_t wire, int64_t ts_us
    ):
        if captured > MAX_FRAME_BYTES:
            return f"captured length {captured}, wanted at most {<int> MAX_FRAME_BYTES}"
        self.put(block, interface, after, captured, wire, ts_us)
        return None

    cdef object take_interface(self, uint32_t length):
        """Enter an interface description: link type, snap length, if_tsresol (9), if_tsoffset (14)."""
        cdef Octets octets = self.octets
        cdef size_t option = 16, end = 8 + <size_t> length
        cdef uint16_t code, size
        cdef uint8_t resolution = 6
        cdef uint64_t offset = 0
        while option + 4 <= end:
            code, size = octets.u16(option), octets.u16(option + 2)
            if code == 0:
                break
            if option + 4 + size > end:
                return f"interface option {code} of {size} octets reaches beyond its block"
            if code == 9 and size == 1:
                resolution = octets.at[option + 4]
            elif code == 14 and size == 8:
                if octets.big_endian:
                    offset = <uint64_t> octets.u32(option + 4) << 32 | octets.u32(option + 8)
                else:
                    offset = <uint64_t> octets.u32(option + 8) << 32 | octets.u32(option + 4)
            option += 4 + ((size + 3) & ~3)
        self.add_interface(octets.u16(8), octets.u32(12), resolution, <int64_t> offset)
        return None
