# Count, sum, sum of squares, least and greatest of a series, added to one value at a time.

from libc.stdint cimport int64_t, uint64_t


# Sums of squares of microseconds need more than 64 bits: exact integers, so that the variance of ten equal gaps is 0.
# Sums need them too: a forged clock that jumps by centuries and back adds up.
cdef extern from *:
    """
    #ifndef PENSTOCK_MOMENTS
    #define PENSTOCK_MOMENTS
    #include <stdint.h>
    typedef unsigned __int128 penstock_u128;
    typedef __int128 penstock_i128;

    static inline penstock_u128 penstock_square(penstock_i128 x) {
        penstock_u128 y = x < 0 ? (penstock_u128) -x : (penstock_u128) x;
        return y * y;
    }

    /* Sample variance from n, sum and sum of squares; 0 where n < 2. Exact up to the last division. */
    static inline double penstock_variance(uint64_t n, penstock_i128 sum, penstock_u128 squares) {
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
    ctypedef long long i128 "penstock_i128"
    u128 square "penstock_square" (i128 x) noexcept nogil
    double variance "penstock_variance" (uint64_t n, i128 sum, u128 squares) noexcept nogil


cdef struct Moments:            # 64 octets
    u128 squares
    i128 sum
    int64_t max
    int64_t min
    uint64_t n


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
