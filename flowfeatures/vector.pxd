from flowfeatures.counters cimport Counters
from flowfeatures.flow cimport Flow, Record


cdef void fill_record(const Flow* flow, const Counters* counters, Record* record) noexcept nogil
