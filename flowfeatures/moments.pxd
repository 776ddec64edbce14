from libc.stdint cimport int64_t, uint32_t, uint64_t


# Sums of squares of microseconds need more than 64 bits: exact integers, so that the variance of ten equal gaps is 0.
cdef extern from *:
    """
    #ifndef PENSTOCK_MOMENTS
    #define PENSTOCK_MOMENTS
    #include <stdint.h>
    typedef unsigned __int128 penstock_u128;

    static inline penstock_u128 penstock_square(int64_t x) {
        penstock_u128 y = x < 0 ? (penstock_u128) (-(__int128) x) : (penstock_u128) x;
        return y * y;
    }

    /* Sample variance from n, sum and sum of squares; 0 where n < 2. Exact up to the last division. */
    static inline double penstock_variance(uint64_t n, int64_t sum, penstock_u128 squares) {
        if (n < 2) return 0.0;
        if ((squares >> 92) == 0 && n < (1ull << 35)) {
            penstock_u128 spread = n * squares - penstock_square(sum);
            return (double) spread / ((double) n * (double) (n - 1));
        }
        /* Gaps of centuries: only a forged clock gets here. */
        double mean_square = (double) sum / (double) n * (double) sum;
        double rest = (double) squares - mean_square;
        return rest > 0.0 ? rest / (double) (n - 1) : 0.0;
    }
    #endif
    """
    ctypedef unsigned long long u128 "penstock_u128"
    u128 square "penstock_square" (int64_t x) noexcept nogil
    double variance "penstock_variance" (uint64_t n, int64_t sum, u128 squares) noexcept nogil


cdef struct Moments:
    uint64_t n
    int64_t sum
    int64_t max
    int64_t min
    u128 squares


cdef inline void moments_add(Moments* m, int64_t x) noexcept nogil:
    if m.n == 0:
        m.max = m.min = x
    elif x > m.max:
        m.max = x
    elif x < m.min:
        m.min = x
    m.n += 1
    m.sum += x
    m.squares += square(x)
