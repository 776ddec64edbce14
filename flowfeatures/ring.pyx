"""Hop 1 for live interfaces: frames of a TPACKET_V3 ring, pointed to where the kernel wrote them.

Knows the layout of the mapped memory (<linux/if_packet.h>) and nothing of sockets: whoever maps a ring brings it here,
a test brings a bytearray. A block of the kernel is ours while its status says so; it goes back on the call after the
one that delivered its last frame, so pointers stay valid until then. The trap: every offset in the memory is checked
against its block before it is followed, and what fails is counted, never read.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy

from flowfeatures.frames cimport Frame, FrameBlock

cdef extern from *:
    """
    #include <stdint.h>
    /* The kernel writes a block, then its status; it reads the status, then the block. */
    static inline uint32_t penstock_status(const uint8_t *at) {
        return __atomic_load_n((const uint32_t *) at, __ATOMIC_ACQUIRE);
    }
    static inline uint32_t penstock_count(const uint8_t *at) {
        return __atomic_load_n((const uint32_t *) at, __ATOMIC_RELAXED);
    }
    static inline void penstock_hand_back(uint8_t *status, uint8_t *frames) {
        __atomic_store_n((uint32_t *) frames, 0, __ATOMIC_RELAXED);
        __atomic_store_n((uint32_t *) status, 0, __ATOMIC_RELEASE);
    }
    """
    uint32_t status_of "penstock_status" (const uint8_t* at) noexcept nogil
    uint32_t count_of "penstock_count" (const uint8_t* at) noexcept nogil
    void hand_back "penstock_hand_back" (uint8_t* status, uint8_t* frames) noexcept nogil

cdef enum:                      # struct tpacket_block_desc
    STATUS_AT = 8
    FRAMES_AT = 12
    FIRST_FRAME_AT = 16
    BLOCK_HEADER_BYTES = 48
    OURS = 1                    # TP_STATUS_USER, in a block's status

cdef enum:                      # behind struct tpacket3_hdr (48 octets) stands the frame's struct sockaddr_ll (20)
    FRAME_HEADER_BYTES = 68
    PACKET_TYPE_AT = 58         # sll_pkttype
    OUTGOING = 4

cdef enum:                      # tp_status of a frame
    VLAN_VALID = 0x10
    VLAN_TPID_VALID = 0x40
    TPID_8021Q = 0x8100

cdef struct FrameHeader:        # struct tpacket3_hdr
    uint32_t next_offset
    uint32_t sec
    uint32_t nsec
    uint32_t snap_bytes
    uint32_t wire_bytes
    uint32_t status
    uint16_t mac_offset
    uint16_t net_offset
    uint32_t hashed
    uint32_t vlan_tci
    uint16_t vlan_tpid
    uint16_t padding


cdef class Ring:
    """The frames of a mapped ring of `block_count` blocks, in the order in which the kernel wrote them.

    `drop_outgoing` leaves out what the host itself sent: on a loopback interface every packet is there twice. Raises
    ValueError where the memory is not what the other arguments say, or not writable.
    """

    cdef readonly uint64_t frames_read          # handed out
    cdef readonly uint64_t outgoing_dropped
    cdef readonly uint64_t malformed_frames     # the ring's memory did not hold together
    cdef readonly uint64_t blocks_read
    cdef readonly int64_t last_us               # time of the newest frame handed out
    cdef uint8_t[::1] view
    cdef uint8_t* octets
    cdef uint64_t block_bytes
    cdef uint32_t block_count, link_type
    cdef bint drop_outgoing
    cdef uint32_t current                       # the block that is read next, or now
    cdef uint32_t finished                      # blocks before it that were delivered and are still ours
    cdef uint32_t frames_left                   # in the current block
    cdef uint64_t next_at                       # offset of its next frame
    cdef bint is_open                           # the current block has been begun

    def __cinit__(
        self, memory, *, uint64_t block_bytes, uint32_t block_count, uint32_t link_type, bint drop_outgoing = False
    ):
        self.view = memory
        wanted = <object> block_bytes * <object> block_count
        if block_bytes < BLOCK_HEADER_BYTES + FRAME_HEADER_BYTES or block_bytes % 8 or not block_count:
            raise ValueError(
                f"{block_count} blocks of {block_bytes} octets, wanted one at least, "
                f"from {BLOCK_HEADER_BYTES + FRAME_HEADER_BYTES} octets up and a multiple of 8"
            )
        if self.view.shape[0] != wanted:
            raise ValueError(f"memory of {self.view.shape[0]} octets, wanted {wanted}")
        self.octets = &self.view[0]
        if <uintptr_t> self.octets % 8:
            raise ValueError("memory not aligned to 8 octets")
        self.block_bytes = block_bytes
        self.block_count = block_count
        self.link_type = link_type
        self.drop_outgoing = drop_outgoing

    def close(self):
        """Let go of the memory; blocks filled from it must not be used any more."""
        self.octets = NULL
        self.view = None

    def read_block(self, FrameBlock block not None):
        """Point the block at the next frames and return how many; 0 where none is ready.

        What the previous call delivered goes back to the kernel first.
        """
        if self.octets == NULL:
            raise ValueError("ring read after close")
        block.first_number = self.frames_read + 1
        block.count = 0
        with nogil:
            self.give_back()
            while block.count < block.capacity and self.begin():
                self.walk(block)
            if not block.count:
                self.give_back()        # blocks of nothing but frames left out: no pointer leads there
        self.frames_read += block.count
        if block.count:
            self.last_us = block.frames[block.count - 1].ts_us
        return block.count

    @property
    def is_ready(self):
        """Whether a block stands ready that was not delivered in full."""
        return self.octets != NULL and (self.is_open or self.is_ours(self.current))

    @property
    def standing(self):
        """Frames in the ring that no call has delivered or counted, those in the kernel's open block among them.

        Frames may arrive while they are counted: the sum is right for some moment of the call.
        """
        cdef uint64_t frames = self.frames_left
        cdef uint32_t index = self.current, seen = self.finished
        if self.octets == NULL:
            return 0
        if self.is_open:
            index = self.after(index)
            seen += 1
        while seen < self.block_count:
            # A block handed back is empty until the kernel opens it, so the first that is not ours ends the count.
            if not self.is_ours(index):
                return frames + count_of(self.block(index) + FRAMES_AT)
            frames += count_of(self.block(index) + FRAMES_AT)
            index = self.after(index)
            seen += 1
        return frames

    # -- blocks -------------------------------------------------------------------------------------------------

    cdef inline uint8_t* block(self, uint32_t index) noexcept nogil:
        return self.octets + index * self.block_bytes

    cdef inline uint32_t after(self, uint32_t index) noexcept nogil:
        return 0 if index + 1 == self.block_count else index + 1

    cdef inline bint is_ours(self, uint32_t index) noexcept nogil:
        return status_of(self.block(index) + STATUS_AT) & OURS

    cdef void give_back(self) noexcept nogil:
        cdef uint32_t index = (self.current + self.block_count - self.finished) % self.block_count
        while self.finished:
            hand_back(self.block(index) + STATUS_AT, self.block(index) + FRAMES_AT)
            index = self.after(index)
            self.finished -= 1

    cdef bint begin(self) noexcept nogil:
        """Open the next block where none is open; return whether one is. One round of the ring is the most."""
        cdef uint32_t first
        if self.is_open:
            return True
        if self.finished == self.block_count or not self.is_ours(self.current):
            return False
        memcpy(&self.frames_left, self.block(self.current) + FRAMES_AT, 4)
        memcpy(&first, self.block(self.current) + FIRST_FRAME_AT, 4)
        self.next_at = first
        if first < BLOCK_HEADER_BYTES:
            self.refuse_rest()
        self.blocks_read += 1
        self.is_open = True
        return True

    cdef void walk(self, FrameBlock block) noexcept nogil:
        """Deliver frames of the open block until it ends or there is no more room."""
        cdef FrameHeader header
        cdef const uint8_t* at
        while self.frames_left and block.count < block.capacity:
            if self.next_at + FRAME_HEADER_BYTES > self.block_bytes:
                self.refuse_rest()
                break
            at = self.block(self.current) + self.next_at
            memcpy(&header, at, sizeof(FrameHeader))
            if header.mac_offset < FRAME_HEADER_BYTES or (
                self.next_at + header.mac_offset + header.snap_bytes > self.block_bytes
            ):
                self.refuse_rest()
                break
            self.frames_left -= 1
            if self.drop_outgoing and at[PACKET_TYPE_AT] == OUTGOING:
                self.outgoing_dropped += 1
            else:
                self.put(&block.frames[block.count], &header, at)
                block.count += 1
            if self.frames_left and header.next_offset < FRAME_HEADER_BYTES:
                self.refuse_rest()
            self.next_at += header.next_offset
        if not self.frames_left:
            self.is_open = False
            self.finished += 1
            self.current = self.after(self.current)

    cdef inline void put(self, Frame* frame, const FrameHeader* header, const uint8_t* at) noexcept nogil:
        frame.octets = at + header.mac_offset
        frame.ts_us = <int64_t> header.sec * 1_000_000 + header.nsec // 1000
        frame.captured = header.snap_bytes
        frame.wire = header.wire_bytes if header.wire_bytes > header.snap_bytes else header.snap_bytes
        frame.link_type = self.link_type
        frame.vlan_tpid = 0
        frame.vlan_tci = 0
        if header.status & VLAN_VALID:
            frame.vlan_tci = <uint16_t> header.vlan_tci
            frame.vlan_tpid = TPID_8021Q
            if header.status & VLAN_TPID_VALID and header.vlan_tpid:
                frame.vlan_tpid = header.vlan_tpid

    cdef void refuse_rest(self) noexcept nogil:
        """Count what is left of a block that does not hold together; where its next frame is, nobody knows."""
        self.malformed_frames += self.frames_left
        self.frames_left = 0
