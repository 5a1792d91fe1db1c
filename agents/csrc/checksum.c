/* CRC-32C (RFC 3720, appendix B.4), which Kafka's record batches bear.
 *
 * By the instruction of SSE4.2 where the processor has it. Its answer takes three cycles and a new one can begin in each,
 * so three stretches of the data are taken at a time and put together: what a checksum becomes behind so many zeros is
 * linear in its bits, and hence a sum of four table entries. Elsewhere by tables, eight bytes at a time.
 */
#include "native.h"

#define POLYNOMIAL 0x82F63B78u /* its bits from the lowest power on */
#define STRETCH 256            /* bytes; three of them take 100 cycles, and putting them together 20 */

static uint32_t tables[8][256]; /* [n]: of a byte with n zeros behind it */

static uint32_t
by_table(uint32_t crc, const uint8_t *at, Py_ssize_t size)
{
    for (; size >= 8; at += 8, size -= 8) {
        crc ^= (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
        crc = tables[7][crc & 0xFF] ^ tables[6][crc >> 8 & 0xFF] ^ tables[5][crc >> 16 & 0xFF] ^ tables[4][crc >> 24]
              ^ tables[3][at[4]] ^ tables[2][at[5]] ^ tables[1][at[6]] ^ tables[0][at[7]];
    }
    for (; size > 0; at++, size--) {
        crc = crc >> 8 ^ tables[0][(crc ^ *at) & 0xFF];
    }
    return crc;
}

#if defined(__x86_64__) && defined(__GNUC__)
#define BY_INSTRUCTION
#include <nmmintrin.h>

static uint32_t behind[4][256]; /* [n][b]: of a checksum's byte n with a stretch of zeros behind it */

static inline uint32_t
shifted(uint32_t crc)
{
    return behind[0][crc & 0xFF] ^ behind[1][crc >> 8 & 0xFF] ^ behind[2][crc >> 16 & 0xFF] ^ behind[3][crc >> 24];
}

static inline uint64_t
word_at(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof(word));
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t
by_instruction(uint32_t crc, const uint8_t *at, Py_ssize_t size)
{
    for (; size >= 3 * STRETCH; at += 3 * STRETCH, size -= 3 * STRETCH) {
        uint64_t one = crc, two = 0, three = 0;
        for (int i = 0; i < STRETCH; i += 8) {
            one = _mm_crc32_u64(one, word_at(at + i));
            two = _mm_crc32_u64(two, word_at(at + STRETCH + i));
            three = _mm_crc32_u64(three, word_at(at + 2 * STRETCH + i));
        }
        crc = shifted(shifted((uint32_t)one) ^ (uint32_t)two) ^ (uint32_t)three;
    }
    uint64_t rest = crc;
    for (; size >= 8; at += 8, size -= 8) {
        rest = _mm_crc32_u64(rest, word_at(at));
    }
    crc = (uint32_t)rest;
    for (; size > 0; at++, size--) {
        crc = _mm_crc32_u8(crc, *at);
    }
    return crc;
}

static void
start_instruction(void)
{
    static const uint8_t zeros[STRETCH] = {0};
    for (int place = 0; place < 4; place++) {
        for (int bit = 0; bit < 8; bit++) {
            behind[place][1 << bit] = by_table((uint32_t)1 << (8 * place + bit), zeros, STRETCH);
        }
        for (int byte = 1; byte < 256; byte++) {
            behind[place][byte] = behind[place][byte & (byte - 1)] ^ behind[place][byte & -byte];
        }
    }
}
#endif

void
checksum_start(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        }
        tables[0][byte] = crc;
    }
    for (int zeros = 1; zeros < 8; zeros++) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t crc = tables[zeros - 1][byte];
            tables[zeros][byte] = crc >> 8 ^ tables[0][crc & 0xFF];
        }
    }
#ifdef BY_INSTRUCTION
    start_instruction();
#endif
}

uint32_t
checksum_of(const uint8_t *data, Py_ssize_t size)
{
#ifdef BY_INSTRUCTION
    if (__builtin_cpu_supports("sse4.2")) {
        return ~by_instruction(~0u, data, size);
    }
#endif
    return ~by_table(~0u, data, size);
}

const char checksum_doc[] = PyDoc_STR(
"checksum(data, by_table)\n--\n\n"
"CRC-32C of bytes; `by_table` as on processors without an instruction for it.");

PyObject *
checksum(PyObject *module, PyObject *args)
{
    Py_buffer data;
    int plain;
    if (!PyArg_ParseTuple(args, "y*p", &data, &plain)) {
        return NULL;
    }
    uint32_t found = plain ? ~by_table(~0u, data.buf, data.len) : checksum_of(data.buf, data.len);
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong(found);
}
