from flowfeatures.flow cimport Flow


cdef void fill_columns(const Flow* flow, double* columns) noexcept nogil
