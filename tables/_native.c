/* Rows in the order of their keys: what RocksDB's files are written in.
 *
 * Both functions have a counterpart in Python (sorting.py), which is used where this module was not built and which the
 * tests hold them against.
 *
 * Keys of one table begin alike, so the bytes that all share are left out, and the eight behind them are one number: by
 * that rows are sorted in linear time, least byte first, with no pass for a byte that is the same in all. Only rows
 * whose numbers are equal are compared. A comparison of Python's objects takes 40 ns, and n log n of them most of what
 * it takes to write a row.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HEAD 8
#define LINE 64   /* bytes of a line of the processor's caches, on most */
#define AHEAD 8   /* rows */
#define TURN 1024 /* rows between two turns of other threads: half a millisecond */

typedef struct {
    uint64_t head;
    PyObject *key;
    PyObject *value;
    Py_ssize_t place; /* among all that were given */
} Row;

static int
compare_keys(const Row *left, const Row *right)
{
    PyObject *one = left->key, *other = right->key;
    Py_ssize_t m = PyBytes_GET_SIZE(one), n = PyBytes_GET_SIZE(other);
    int found = memcmp(PyBytes_AS_STRING(one), PyBytes_AS_STRING(other), (size_t)(m < n ? m : n));
    return found != 0 ? found : (m > n) - (m < n);
}

static int
compare(const void *left, const void *right)
{
    const Row *one = left, *other = right;
    int found = compare_keys(one, other);
    return found != 0 ? found : (one->place > other->place) - (one->place < other->place);
}

/* The bytes of a key from `skip` on as a number in their order. A key that ends before is filled up with zeros, and so
 * may have the number of a longer one. */
static uint64_t
head_of(PyObject *key, Py_ssize_t skip)
{
    const uint8_t *at = (const uint8_t *)PyBytes_AS_STRING(key) + skip;
    Py_ssize_t left = PyBytes_GET_SIZE(key) - skip;
    uint64_t head = 0;
    for (Py_ssize_t i = 0; i < HEAD; i++) {
        head = head << 8 | (i < left ? at[i] : 0);
    }
    return head;
}

/* How many bytes all keys begin with alike. */
static Py_ssize_t
shared_prefix(const Row *rows, Py_ssize_t count)
{
    const char *first = PyBytes_AS_STRING(rows[0].key);
    Py_ssize_t shared = PyBytes_GET_SIZE(rows[0].key);
    for (Py_ssize_t i = 1; i < count && shared > 0; i++) {
        const char *key = PyBytes_AS_STRING(rows[i].key);
        Py_ssize_t size = PyBytes_GET_SIZE(rows[i].key);
        shared = size < shared ? size : shared;
        if (memcmp(key, first, (size_t)shared) != 0) {
            Py_ssize_t same = 0;
            while (key[same] == first[same]) {
                same++;
            }
            shared = same;
        }
    }
    return shared;
}

/* Sort rows, by way of a second array of the size, and return the one that they lie in. */
static Row *
sort(Row *rows, Row *other, Py_ssize_t count)
{
    size_t ends[HEAD][256];
    memset(ends, 0, sizeof ends);
    Py_ssize_t skip = shared_prefix(rows, count);
    for (Py_ssize_t i = 0; i < count; i++) {
        uint64_t head = rows[i].head = head_of(rows[i].key, skip);
        for (int byte = 0; byte < HEAD; byte++) {
            ends[byte][head >> 8 * byte & 0xFF]++;
        }
    }
    for (int byte = 0; byte < HEAD; byte++) {
        size_t *begin = ends[byte], at = 0;
        if (begin[rows[0].head >> 8 * byte & 0xFF] == (size_t)count) {
            continue;
        }
        for (int value = 0; value < 256; value++) {
            size_t here = begin[value];
            begin[value] = at;
            at += here;
        }
        for (Py_ssize_t i = 0; i < count; i++) {
            other[begin[rows[i].head >> 8 * byte & 0xFF]++] = rows[i];
        }
        Row *sorted = other;
        other = rows;
        rows = sorted;
    }
    for (Py_ssize_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && rows[end].head == rows[i].head; end++) {
        }
        if (end - i > 1) {
            qsort(rows + i, (size_t)(end - i), sizeof(Row), compare);
        }
    }
    return rows;
}

/* How many rows the dicts of a list have; -1 with TypeError for anything else. */
static Py_ssize_t
count_rows(PyObject *parts)
{
    Py_ssize_t count = 0, at;
    PyObject *key, *value;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(parts); i++) {
        PyObject *part = PyList_GET_ITEM(parts, i);
        if (!PyDict_Check(part)) {
            PyErr_SetString(PyExc_TypeError, "rows must be dicts");
            return -1;
        }
        for (at = 0; PyDict_Next(part, &at, &key, &value);) {
            if (!PyBytes_Check(key)) {
                PyErr_Format(PyExc_TypeError, "a key must be bytes, not %.100s", Py_TYPE(key)->tp_name);
                return -1;
            }
        }
        count += PyDict_GET_SIZE(part);
    }
    return count;
}

/* The rows are spread over memory, in the order of their arrival: they are on their way before they are needed. */
static inline void
prefetch(const Row *row)
{
#if defined(__GNUC__)
    __builtin_prefetch(row->key);
    __builtin_prefetch(row->value);
    __builtin_prefetch((const char *)row->value + LINE);
    __builtin_prefetch((const char *)row->value + 2 * LINE);
#endif
}

/* Set or delete each key's newest value. Lets other threads run now and then. */
static int
assign(const Row *rows, Py_ssize_t count, PyObject *target)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        const Row *row = rows + i;
        if (i + AHEAD < count) {
            prefetch(row + AHEAD);
        }
        if (i + 1 < count && row->head == row[1].head && compare_keys(row, row + 1) == 0) {
            continue;
        }
        int failed = row->value == Py_None ? PyObject_DelItem(target, row->key)
                                           : PyObject_SetItem(target, row->key, row->value);
        if (failed) {
            return -1;
        }
        if (i % TURN == TURN - 1) {
            Py_BEGIN_ALLOW_THREADS
            Py_END_ALLOW_THREADS
        }
    }
    return 0;
}

PyDoc_STRVAR(assign_sorted_doc,
"assign_sorted(parts, target, /)\n--\n\n"
"target[key] = value for the rows of a list of dicts, in byte order of the keys; del where a value is None. Of several\n"
"values of a key the last one.");

static PyObject *
assign_sorted(PyObject *module, PyObject *args)
{
    PyObject *parts, *target, *key, *value;
    if (!PyArg_ParseTuple(args, "O!O", &PyList_Type, &parts, &target)) {
        return NULL;
    }
    Py_ssize_t count = count_rows(parts), found = 0, at;
    if (count < 0) {
        return NULL;
    }
    Row *memory = PyMem_New(Row, 2 * count + 1), *rows = memory;
    if (memory == NULL) {
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(parts); i++) {
        for (at = 0; found < count && PyDict_Next(PyList_GET_ITEM(parts, i), &at, &key, &value); found++) {
            rows[found].key = Py_NewRef(key); /* other threads run meanwhile */
            rows[found].value = Py_NewRef(value);
            rows[found].place = found;
        }
    }
    if (count > 0) {
        Py_BEGIN_ALLOW_THREADS
        rows = sort(rows, rows + count, count);
        Py_END_ALLOW_THREADS
    }
    int failed = assign(rows, count, target);
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_DECREF(rows[i].key);
        Py_DECREF(rows[i].value);
    }
    PyMem_Free(memory);
    if (failed) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(weigh_doc,
"weigh(rows, /)\n--\n\n"
"The bytes of a dict's keys and values.");

static PyObject *
weigh(PyObject *module, PyObject *rows)
{
    Py_ssize_t at = 0, bytes = 0;
    PyObject *key, *value;
    if (!PyDict_Check(rows)) {
        PyErr_SetString(PyExc_TypeError, "rows must be a dict");
        return NULL;
    }
    while (PyDict_Next(rows, &at, &key, &value)) {
        bytes += PyBytes_Check(key) ? PyBytes_GET_SIZE(key) : 0;
        bytes += PyBytes_Check(value) ? PyBytes_GET_SIZE(value) : 0;
    }
    return PyLong_FromSsize_t(bytes);
}

static PyMethodDef methods[] = {
    {"assign_sorted", assign_sorted, METH_VARARGS, assign_sorted_doc},
    {"weigh", weigh, METH_O, weigh_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "penstock.tables._native",
    .m_doc = "Rows in the order of their keys.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}
