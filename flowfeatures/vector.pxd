from flowfeatures.flow cimport Flow, Record


cdef void fill_record(const Flow* flow, Record* record) noexcept nogil
