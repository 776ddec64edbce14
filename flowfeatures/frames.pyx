"""Hop 1's unit of work: a block of raw frames, pointed to and never copied.

Captures and rings fill blocks from C. `FrameBlock.of` and `FrameBlock.view` make one from frames that are at hand in
Python; those keep what owns the octets for as long as the block lives, so the octets must not be changed meanwhile.
"""

from cpython.buffer cimport PyBuffer_IsContiguous
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.stdlib cimport calloc, free

from flowfeatures.frame_arguments import link_number, pairs, whole_numbers

cdef enum:
    MAX_FRAMES = 0x7FFFFFFF

cdef int64_t MOST_WIRE_BYTES = 0xFFFFFFFF - 4       # the decoder adds the tag that was taken out


cdef class FrameBlock:
    """Room for `capacity` frames, `count` of them filled. Whoever fills it owns the octets behind the pointers.

    `FlowMeter.add` takes one. `FrameBlock.of(frames, times_us)` makes one from bytes-like frames,
    `FrameBlock.view(buffer, offsets, lengths, times_us)` from one buffer. `first_number` is the number of the first
    frame in its capture, counted from 1: where `packet_labels` begin.

    Raises ValueError where capacity is not 1 to 2,147,483,647.
    """

    def __cinit__(self, Py_ssize_t capacity = 4096):
        if not 1 <= capacity <= MAX_FRAMES:
            raise ValueError(f"capacity: {capacity}, wanted 1 to {MAX_FRAMES} frames")
        self.frames = <Frame*> calloc(capacity, sizeof(Frame))
        if self.frames == NULL:
            raise MemoryError(f"{capacity} frames")
        self.capacity = <int> capacity
        self.count = 0
        self.first_number = 1

    def __dealloc__(self):
        free(self.frames)

    def __len__(self):
        return self.count

    def clear(self):
        """Take all frames out of the block, and let go of what owned their octets where `of` or `view` kept it."""
        self.count = 0
        self.kept = None

    @staticmethod
    def of(frames, times_us, *, link_type = 1, wire_bytes = None, vlan = None, first_number = 1):
        """Return a block of these frames: bytes-like objects of up to 1 MiB, kept and not copied.

        `times_us`: a time per frame, whole microseconds since the epoch (a sequence of int, or an integer array).
        `link_type`: what the frames begin with, a LINKTYPE_ number or a name of LINK_TYPES ("ether", "raw",
        "linux-sll"). `wire_bytes`: the lengths on the wire where frames were cut. `vlan`: a pair (tpid, tci) per frame
        whose outermost tag was taken out of the octets, as Linux does; tpid 0: none was; `wire_bytes` is then without
        it. `first_number`: the first frame's number in its capture, from 1.

        Raises TypeError where something is of the wrong type (a frame that is no bytes-like object, times that are
        datetime64 or float), ValueError where a value is out of range or a length differs; both name the index.

        >>> len(FrameBlock.of([bytes(60), bytes(60)], [1_700_000_000_000_000, 1_700_000_000_000_250]))
        2
        """
        if isinstance(frames, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"frames: {type(frames).__name__}, wanted a sequence of bytes-like frames")
        cdef list kept = list(frames)
        cdef FrameBlock block = FrameBlock(max(1, len(kept)))
        cdef Py_buffer* octets
        cdef Py_ssize_t size
        cdef int at
        cdef object frame
        for at in range(<int> len(kept)):
            frame = kept[at]
            if type(frame) is bytes:
                block.frames[at].octets = <const uint8_t*> PyBytes_AS_STRING(frame)
                size = PyBytes_GET_SIZE(frame)
            else:
                kept[at] = frame = octets_of(frame, "frames", at)
                octets = PyMemoryView_GET_BUFFER(frame)
                block.frames[at].octets = <const uint8_t*> octets.buf
                size = octets.len
            if size > MAX_FRAME_BYTES:
                raise ValueError(f"frames[{at}]: {size} octets, wanted at most {<int> MAX_FRAME_BYTES}")
            block.frames[at].captured = <uint32_t> size
        block.kept = kept
        block.first_number = first_of(first_number)
        block.finish(<int> len(kept), times_us, link_type, wire_bytes, vlan)
        return block

    @staticmethod
    def view(
        buffer, offsets, lengths, times_us, *,
        link_type = 1, wire_bytes = None, vlan = None, first_number = 1,
    ):
        """Return a block of frames that stand in one buffer (bytes, mmap, a uint8 array; read-only ones too).

        Frame k is `buffer[offsets[k] : offsets[k] + lengths[k]]`. Nothing is copied and no object is made per frame;
        the buffer is kept. `offsets`, `lengths` and the rest, as in `of`, are int64[n] arrays, or sequences of int.

        Raises TypeError and ValueError as `of` does, and ValueError where a frame reaches beyond the buffer.
        """
        cdef object held = octets_of(buffer, "buffer", -1)
        cdef Py_buffer* octets = PyMemoryView_GET_BUFFER(held)
        cdef int64_t buffer_bytes = octets.len
        cdef int64_t most_bytes = min(<int64_t> MAX_FRAME_BYTES, buffer_bytes)
        cdef const int64_t[:] starts = whole_numbers("offsets", offsets)
        cdef Py_ssize_t count = starts.shape[0]
        cdef const int64_t[:] sizes = whole_numbers("lengths", lengths, count)
        cdef FrameBlock block = FrameBlock(max(1, count))
        cdef int64_t start = 0, size = 0
        cdef Py_ssize_t at = 0
        with nogil:
            while at < count:
                start, size = starts[at], sizes[at]
                if not (0 <= size <= most_bytes and 0 <= start <= buffer_bytes - size):
                    break
                block.frames[at].octets = <const uint8_t*> octets.buf + start
                block.frames[at].captured = <uint32_t> size
                at += 1
        if at < count:
            if not 0 <= size <= most_bytes:
                raise ValueError(f"lengths[{at}]: {size}, wanted 0 to {most_bytes}: the buffer has {buffer_bytes} octets")
            raise ValueError(
                f"offsets[{at}]: {start}, wanted 0 to {buffer_bytes - size}: "
                f"the frame has {size} octets, the buffer {buffer_bytes}"
            )
        block.kept = held
        block.first_number = first_of(first_number)
        block.finish(<int> count, times_us, link_type, wire_bytes, vlan)
        return block

    cdef int finish(self, int count, times_us, link_type, wire_bytes, vlan) except -1:
        """Give `count` frames, whose octets are set, all else they need; only then do they count."""
        cdef const int64_t[:] times = whole_numbers("times_us", times_us, count)
        cdef const int64_t[:] wires = None if wire_bytes is None else whole_numbers("wire_bytes", wire_bytes, count)
        cdef const int64_t[:] tpids = None
        cdef const int64_t[:] tcis = None
        cdef uint32_t link = link_number(link_type)
        cdef bint is_cut = wire_bytes is not None, is_tagged = vlan is not None
        cdef int64_t time, wire, tpid, tci
        cdef Frame* frame
        cdef int at
        if is_tagged:
            tpids, tcis = pairs("vlan", vlan, count)
        for at in range(count):
            frame = &self.frames[at]
            time = times[at]
            if not 0 <= time <= LAST_US:
                raise ValueError(f"times_us[{at}]: {time}, wanted 0 to {LAST_US} (the end of year 9999)")
            wire = wires[at] if is_cut else frame.captured
            if not frame.captured <= wire <= MOST_WIRE_BYTES:
                raise ValueError(f"wire_bytes[{at}]: {wire}, wanted {frame.captured} (what is at hand) to {MOST_WIRE_BYTES}")
            if is_tagged:
                tpid, tci = tpids[at], tcis[at]
                if not (0 <= tpid <= 0xFFFF and 0 <= tci <= 0xFFFF):
                    raise ValueError(f"vlan[{at}]: tpid {tpid} and tci {tci}, wanted 0 to 65535 each")
                frame.vlan_tpid, frame.vlan_tci = <uint16_t> tpid, <uint16_t> tci
            frame.ts_us = time
            frame.wire = <uint32_t> wire
            frame.link_type = link
        self.count = count
        return 0


cdef uint64_t first_of(number) except 0:
    if not 1 <= number < 1 << 63:
        raise ValueError(f"first_number: {number}, wanted 1 or more")
    return number


cdef object octets_of(owner, str name, int at):
    """Return a memoryview that holds the owner's octets; while it lives, a bytearray cannot be resized under us."""
    cdef object held
    cdef Py_buffer* octets
    where = name if at < 0 else f"{name}[{at}]"
    try:
        held = memoryview(owner)
    except (TypeError, ValueError, BufferError) as exc:
        raise TypeError(f"{where}: {type(owner).__name__}, wanted a bytes-like object") from exc
    octets = PyMemoryView_GET_BUFFER(held)
    if octets.ndim != 1 or octets.itemsize != 1 or not PyBuffer_IsContiguous(octets, b"C"):
        raise ValueError(
            f"{where}: {octets.ndim} dimensions, items of {octets.itemsize} octets, strides {held.strides}; "
            "wanted one dimension of octets without gaps"
        )
    return held
