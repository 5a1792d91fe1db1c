/* The wire batches of a fetch answer, one behind the other, to columns.
 *
 * What is out of the ordinary is left to Python (kafka/reading/unread.py): batches that are compressed, of an old format,
 * damaged, or that end an aborted transaction. Reading stops before such a batch with nothing of it done, and goes on
 * behind it with the next call. So there is one place where errors are made, and none of them here but those of memory.
 */
#include "native.h"

#define LENGTH_AT 8
#define LENGTH_BEHIND 12 /* the bytes of a batch that its length does not count */
#define MAGIC_AT 16
#define CHECKSUM_AT 17
#define CHECKED 21 /* where in a batch begins what its checksum is of */
#define COUNT_AT 57
#define HEADER 61

enum { COMPRESSION = 0x07, APPEND_TIME = 0x08, TRANSACTIONAL = 0x10, CONTROL = 0x20 };

/* What becomes of a batch. */
enum { FAILED = -1, LEFT_TO_PYTHON, LEFT_OUT, TAKEN };

typedef struct {
    Columns columns;
    Py_ssize_t rows; /* of the columns, without those of a batch that failed */
    int64_t start; /* offset of the first record wanted */
    int64_t next;  /* the one behind the last batch */
    PyObject *aborted;  /* list of (first offset, producer id), the lowest last; NULL where all records are wanted */
    PyObject *aborting; /* set of the producers whose transaction is an aborted one */
} Answer;

/* Producers whose aborted transaction begins before or with this offset. */
static int
find_aborting(Answer *answer, int64_t base_offset)
{
    for (Py_ssize_t left = PyList_GET_SIZE(answer->aborted); left > 0; left--) {
        PyObject *pair = PyList_GET_ITEM(answer->aborted, left - 1);
        if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2 || !PyLong_CheckExact(PyTuple_GET_ITEM(pair, 0))
            || !PyLong_CheckExact(PyTuple_GET_ITEM(pair, 1))) {
            PyErr_SetString(PyExc_TypeError, "an aborted transaction is (first offset, producer id)");
            return -1;
        }
        int64_t offset = PyLong_AsLongLong(PyTuple_GET_ITEM(pair, 0));
        if (offset == -1 && PyErr_Occurred()) {
            return -1;
        }
        if (offset > base_offset) {
            return 0;
        }
        if (PySet_Add(answer->aborting, PyTuple_GET_ITEM(pair, 1)) < 0
            || PyList_SetSlice(answer->aborted, left - 1, left, NULL) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Whether the records of a batch are for the reader. Python may do the same again: what changes here stays as it is. */
static int
judged(Answer *answer, const uint8_t *batch, int attributes)
{
    if (answer->aborted != NULL) {
        if (find_aborting(answer, int64_at(batch)) < 0) {
            return FAILED;
        }
        if (PySet_GET_SIZE(answer->aborting) > 0 && attributes & (CONTROL | TRANSACTIONAL)) {
            PyObject *producer = PyLong_FromLongLong(int64_at(batch + 43));
            int aborting = producer == NULL ? -1 : PySet_Contains(answer->aborting, producer);
            Py_XDECREF(producer);
            if (aborting != 0) {
                return aborting < 0 ? FAILED : attributes & CONTROL ? LEFT_TO_PYTHON : LEFT_OUT;
            }
        }
    }
    return attributes & CONTROL ? LEFT_OUT : TAKEN;
}

/* Take a whole batch, whose header is there. */
static int
take(Answer *answer, const uint8_t *batch, Py_ssize_t size)
{
    int64_t next;
    int attributes = int16_at(batch + 21);
    if (attributes & COMPRESSION || __builtin_add_overflow(int64_at(batch), (int64_t)int32_at(batch + 23) + 1, &next)
        || checksum_of(batch + CHECKED, size - CHECKED) != uint32_at(batch + CHECKSUM_AT)) {
        return LEFT_TO_PYTHON;
    }
    int fate = judged(answer, batch, attributes);
    if (fate == TAKEN) {
        int append_time = (attributes & APPEND_TIME) != 0;
        Reader body = {batch + HEADER, batch + size};
        Described described = {int32_at(batch + COUNT_AT), int64_at(batch), int64_at(batch + (append_time ? 35 : 27)),
                               append_time};
        if (columns_read(&answer->columns, &body, &described, answer->start) < 0) {
            if (!PyErr_ExceptionMatches(PyExc_ValueError)) {
                return FAILED;
            }
            PyErr_Clear(); /* it comes again, in words that name the batch */
            return LEFT_TO_PYTHON;
        }
        answer->rows = answer->columns.rows;
    }
    if (fate != LEFT_TO_PYTHON && next > answer->next) {
        answer->next = next;
    }
    return fate;
}

/* The size of the batch at the beginning of what is left; 0 where there is no whole one, or none that is read here. */
static Py_ssize_t
whole(const uint8_t *batch, Py_ssize_t left)
{
    if (left < HEADER || batch[MAGIC_AT] < 2) {
        return 0;
    }
    int64_t size = (int64_t)uint32_at(batch + LENGTH_AT) + LENGTH_BEHIND;
    return size >= HEADER && size <= left ? (Py_ssize_t)size : 0;
}

/* How many records the batches say that they have, until those are enough: what room is made for at first. */
static Py_ssize_t
announced(const uint8_t *at, const uint8_t *end, Py_ssize_t most)
{
    Py_ssize_t count = 0, size;
    for (; count < most && (size = whole(at, end - at)) > 0; at += size) {
        int32_t more = int32_at(at + COUNT_AT);
        if (int16_at(at + 21) & COMPRESSION) {
            break;
        }
        if (!(int16_at(at + 21) & CONTROL) && more > 0 && more <= size / LEAST) {
            count += more;
        }
    }
    return count;
}

const char read_batches_doc[] = PyDoc_STR(
"read_batches(data, at, start, most, aborted, aborting)\n--\n\n"
"The records from offset `start` on of the wire batches from position `at` on, until there are `most`, as (columns as\n"
"of read_records, position reached, offset behind the last batch or `start`, whether there are `most`). Stops before a\n"
"batch that it leaves to Python. `aborted`: None, or a list of (first offset, producer id), the lowest last, from which\n"
"those go over into the set `aborting` whose transactions have begun.");

PyObject *
read_batches(PyObject *module, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t at, most;
    long long start;
    Answer answer = {0};
    if (!PyArg_ParseTuple(args, "y*nLnOO!", &data, &at, &start, &most, &answer.aborted, &PySet_Type,
                          &answer.aborting)) {
        return NULL;
    }
    answer.start = answer.next = start;
    PyObject *found = NULL;
    int fate = TAKEN, full = 0;
    if (answer.aborted == Py_None) {
        answer.aborted = NULL;
    } else if (!PyList_Check(answer.aborted)) {
        PyErr_SetString(PyExc_TypeError, "aborted transactions are a list or None");
        fate = FAILED;
    }
    if (at < 0 || at > data.len) {
        PyErr_SetString(PyExc_ValueError, "the position lies outside of the data");
        fate = FAILED;
    }
    if (fate == TAKEN && columns_reserve(&answer.columns, announced((const uint8_t *)data.buf + at,
                                                                    (const uint8_t *)data.buf + data.len, most)) < 0) {
        fate = FAILED;
    }
    while (fate > LEFT_TO_PYTHON && !full) {
        const uint8_t *batch = (const uint8_t *)data.buf + at;
        Py_ssize_t size = whole(batch, data.len - at);
        fate = size == 0 ? LEFT_TO_PYTHON : take(&answer, batch, size);
        if (fate > LEFT_TO_PYTHON) {
            at += size;
            full = answer.rows >= most;
        }
    }
    PyObject *columns = fate == FAILED ? NULL : columns_lists(&answer.columns, answer.rows);
    if (columns != NULL) {
        found = Py_BuildValue("(NnLO)", columns, at, (long long)answer.next, full ? Py_True : Py_False);
    }
    columns_free(&answer.columns);
    PyBuffer_Release(&data);
    return found;
}
