"""The newest frames of an interface in a fixed piece of memory, and those of some conversations out of it as a pcap.

Beside the path of a packet, not on it: a frame is copied once, what is oldest makes room, nothing is allocated. The
memory is one ring: entries stand one behind the other, an entry is never split, and the one that does not fit before the
end goes to the front. The trap: whoever asks decodes all that is held, so ask once per incident and not per packet.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from flowfeatures.frames cimport Frame, FrameBlock
from flowfeatures.packet cimport DECODED, Packet, decode

cdef enum:
    LEAST_BYTES = 1 << 16
    ETHERNET = 1
    MACS = 12
    TAG = 4
    MOST_PEERS = 256

cdef struct Entry:              # the captured octets follow, padded to 8
    int64_t ts_us
    uint32_t captured
    uint32_t wire
    uint32_t link_type
    uint16_t vlan_tpid
    uint16_t vlan_tci


cdef class KeptFrames:
    """The newest frames, in at most `size_bytes` octets with 24 of each frame's own. One thread at a time.

    Raises ValueError below 65,536 octets.
    """

    cdef readonly uint64_t size_bytes
    cdef readonly uint64_t frames       # held now
    cdef readonly uint64_t left_out     # too large to be kept
    cdef uint8_t* octets
    cdef uint64_t head, tail, end       # where the next entry goes, the oldest one stands, the last one before 0 ends
    cdef bint is_wrapped

    def __cinit__(self, uint64_t size_bytes):
        if size_bytes < LEAST_BYTES:
            raise ValueError(f"size_bytes: {size_bytes}, wanted {LEAST_BYTES} at least")
        self.octets = <uint8_t*> malloc(size_bytes)
        if self.octets == NULL:
            raise MemoryError(f"{size_bytes} octets")
        self.size_bytes = size_bytes

    def __dealloc__(self):
        free(self.octets)

    @property
    def oldest_us(self):
        """Time of the oldest frame held, None where there is none."""
        return (<Entry*> (self.octets + self.tail)).ts_us if self.frames else None

    def clear(self):
        """Forget all frames."""
        self.frames = self.head = self.tail = 0
        self.is_wrapped = False

    def keep(self, FrameBlock block not None):
        """Copy the frames of a block."""
        cdef int place
        with nogil:
            for place in range(block.count):
                self.put(&block.frames[place])

    def pcap_of(self, bytes device not None, peers, *, uint32_t most_frames):
        """Return the newest frames between a device and its peers (16 octets each) as a pcap; b"" where none is held.

        Of several link types that of the newest such frame counts. A tag the kernel took out is put back.
        """
        cdef Packet packet
        cdef Entry* entry
        cdef bytes joined = b"".join(peers)
        cdef const uint8_t* ends = joined
        cdef const uint8_t* own = device
        cdef uint64_t count = len(joined) // 16, at = self.tail, found = 0, number
        cdef uint64_t* places
        if len(device) != 16 or len(joined) % 16 or count > MOST_PEERS or most_frames < 1:
            raise ValueError(f"device and at most {MOST_PEERS} peers of 16 octets each, and one frame at least")
        places = <uint64_t*> malloc(most_frames * sizeof(uint64_t))
        if places == NULL:
            raise MemoryError(f"{most_frames} places")
        try:
            with nogil:
                for number in range(self.frames):
                    entry = <Entry*> (self.octets + at)
                    if self.is_between(entry, own, ends, count, &packet):
                        places[found % most_frames] = at
                        found += 1
                    at = self.after(at, entry)
            return self.written(places, found, most_frames)
        finally:
            free(places)

    # -- inside -------------------------------------------------------------------------------------------------

    cdef void put(self, const Frame* frame) noexcept nogil:
        cdef uint64_t need = sizeof(Entry) + ((<uint64_t> frame.captured + 7) & ~(<uint64_t> 7))
        cdef Entry* entry
        if need > self.size_bytes // 4:
            self.left_out += 1
            return
        while True:
            if not self.frames:
                self.head = self.tail = 0
                self.is_wrapped = False
            if not self.is_wrapped:
                if self.head + need <= self.size_bytes:
                    break
                self.end = self.head
                self.head = 0
                self.is_wrapped = True
            if self.head + need <= self.tail:
                break
            self.drop_oldest()
        entry = <Entry*> (self.octets + self.head)
        entry.ts_us = frame.ts_us
        entry.captured = frame.captured
        entry.wire = frame.wire
        entry.link_type = frame.link_type
        entry.vlan_tpid = frame.vlan_tpid
        entry.vlan_tci = frame.vlan_tci
        memcpy(self.octets + self.head + sizeof(Entry), frame.octets, frame.captured)
        self.head += need
        self.frames += 1

    cdef void drop_oldest(self) noexcept nogil:
        self.tail = self.after(self.tail, <Entry*> (self.octets + self.tail))
        self.frames -= 1
        if self.is_wrapped and self.tail == 0:
            self.is_wrapped = False

    cdef uint64_t after(self, uint64_t at, const Entry* entry) noexcept nogil:
        at += sizeof(Entry) + ((<uint64_t> entry.captured + 7) & ~(<uint64_t> 7))
        return 0 if self.is_wrapped and at == self.end else at

    cdef bint is_between(
        self, Entry* entry, const uint8_t* own, const uint8_t* ends, uint64_t count, Packet* packet
    ) noexcept nogil:
        cdef Frame frame
        cdef const uint8_t* peer
        cdef uint64_t number
        frame.octets = <const uint8_t*> entry + sizeof(Entry)
        frame.ts_us = entry.ts_us
        frame.captured = entry.captured
        frame.wire = entry.wire
        frame.link_type = entry.link_type
        frame.vlan_tpid = entry.vlan_tpid
        frame.vlan_tci = entry.vlan_tci
        if decode(&frame, packet) != DECODED:
            return False
        if memcmp(packet.src, own, 16) == 0:
            peer = packet.dst
        elif memcmp(packet.dst, own, 16) == 0:
            peer = packet.src
        else:
            return False
        for number in range(count):
            if memcmp(peer, ends + 16 * number, 16) == 0:
                return True
        return False

    cdef object written(self, const uint64_t* places, uint64_t found, uint64_t most_frames):
        """Return the pcap of the newest frames found, in the order they came."""
        cdef uint64_t first = found - most_frames if found > most_frames else 0
        cdef uint64_t number
        cdef uint32_t link_type
        cdef Entry* entry
        cdef bint is_tagged
        cdef const uint8_t* octets
        if not found:
            return b""
        link_type = (<Entry*> (self.octets + places[(found - 1) % most_frames])).link_type
        parts = [_words(0xA1B2C3D4, 4 << 16 | 2, 0, 0, 0x40000, link_type)]
        for number in range(first, found):
            entry = <Entry*> (self.octets + places[number % most_frames])
            if entry.link_type != link_type:
                continue
            octets = <const uint8_t*> entry + sizeof(Entry)
            is_tagged = entry.vlan_tpid != 0 and link_type == ETHERNET and entry.captured >= MACS
            extra = TAG if is_tagged else 0
            seconds, micros = divmod(entry.ts_us, 1_000_000)
            parts.append(_words(seconds & 0xFFFFFFFF, micros, entry.captured + extra, entry.wire + extra))
            if is_tagged:
                parts.append(octets[:MACS])
                parts.append(entry.vlan_tpid.to_bytes(2, "big") + entry.vlan_tci.to_bytes(2, "big"))
                parts.append(octets[MACS:entry.captured])
            else:
                parts.append(octets[:entry.captured])
        return b"".join(parts)


def _words(*numbers):
    """Return 32-bit numbers, little-endian; a version 2.4 comes as one of them."""
    return b"".join([(<object> number).to_bytes(4, "little") for number in numbers])
