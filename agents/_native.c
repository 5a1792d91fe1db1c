/* The record path in C: Kafka's records (message format 2) to columns and back, and the partitions of keys.
 *
 * Each function here has a counterpart in Python beside it (faust/wire.py, faust/rows.py, partitioner.py), which is used
 * where this module was not built and which the tests hold it against. Nothing here keeps state, calls back into Python
 * code, or trusts a length that it reads.
 *
 * The format: https://kafka.apache.org/documentation/#messageformat. Numbers within a record are zigzag varints.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} Reader;

static inline int
read_varint(Reader *reader, int64_t *value)
{
    const uint8_t *at = reader->at, *end = reader->end;
    uint64_t found = 0;
    for (int shift = 0; shift < 64 && at < end; shift += 7) {
        uint8_t byte = *at++;
        found |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            reader->at = at;
            *value = (int64_t)(found >> 1) ^ -(int64_t)(found & 1);
            return 0;
        }
    }
    return -1;
}

/* Bytes with their length before them; None for a length of -1. NULL with ValueError where they do not fit. */
static inline PyObject *
read_bytes(Reader *reader)
{
    int64_t length;
    if (read_varint(reader, &length) < 0 || length > reader->end - reader->at) {
        PyErr_SetString(PyExc_ValueError, "a key, value or header does not fit into its record");
        return NULL;
    }
    if (length < 0) {
        Py_RETURN_NONE;
    }
    PyObject *found = PyBytes_FromStringAndSize((const char *)reader->at, (Py_ssize_t)length);
    reader->at += length;
    return found;
}

/* One header as (name, value). */
static PyObject *
read_header(Reader *reader)
{
    int64_t length;
    if (read_varint(reader, &length) < 0 || length < 0 || length > reader->end - reader->at) {
        PyErr_SetString(PyExc_ValueError, "a header's name does not fit into its record");
        return NULL;
    }
    PyObject *name = PyUnicode_DecodeUTF8((const char *)reader->at, (Py_ssize_t)length, NULL);
    if (name == NULL) {
        return NULL;
    }
    reader->at += length;
    PyObject *value = read_bytes(reader);
    if (value == NULL) {
        Py_DECREF(name);
        return NULL;
    }
    PyObject *pair = PyTuple_New(2);
    if (pair == NULL) {
        Py_DECREF(name);
        Py_DECREF(value);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, name);
    PyTuple_SET_ITEM(pair, 1, value);
    return pair;
}

static PyObject *
read_headers(Reader *reader, int64_t count)
{
    if (count < 0 || count > (reader->end - reader->at) / 2) { /* each takes two bytes at least */
        PyErr_SetString(PyExc_ValueError, "more headers than fit into their record");
        return NULL;
    }
    PyObject *found = PyList_New((Py_ssize_t)count);
    for (Py_ssize_t i = 0; found != NULL && i < count; i++) {
        PyObject *pair = read_header(reader);
        if (pair == NULL) {
            Py_CLEAR(found);
        } else {
            PyList_SET_ITEM(found, i, pair);
        }
    }
    return found;
}

/* Columns while they are filled: lists as long as the batch may become, cut to what was filled at the end. */
typedef struct {
    PyObject *keys, *values, *stamps, *offsets, *headers;
    Py_ssize_t capacity, filled;
    int64_t first, last;
    int64_t stamp_value;
    PyObject *stamp; /* the newest one: runs of equal timestamps share an object */
} Columns;

static void
columns_clear(Columns *columns)
{
    Py_CLEAR(columns->keys);
    Py_CLEAR(columns->values);
    Py_CLEAR(columns->stamps);
    Py_CLEAR(columns->offsets);
    Py_CLEAR(columns->headers);
    Py_CLEAR(columns->stamp);
}

/* From here on offsets have holes: write down those that were dense. */
static int
columns_list_offsets(Columns *columns)
{
    columns->offsets = PyList_New(columns->capacity);
    if (columns->offsets == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < columns->filled; i++) {
        PyObject *offset = PyLong_FromLongLong(columns->first + i);
        if (offset == NULL) {
            return -1;
        }
        PyList_SET_ITEM(columns->offsets, i, offset);
    }
    return 0;
}

/* From here on records have headers: those before had none. */
static int
columns_list_headers(Columns *columns)
{
    columns->headers = PyList_New(columns->capacity);
    PyObject *none = PyTuple_New(0);
    if (columns->headers == NULL || none == NULL) {
        Py_XDECREF(none);
        return -1;
    }
    for (Py_ssize_t i = 0; i < columns->filled; i++) {
        PyList_SET_ITEM(columns->headers, i, Py_NewRef(none));
    }
    Py_DECREF(none);
    return 0;
}

static int
columns_add_offset(Columns *columns, int64_t offset)
{
    if (columns->filled == 0) {
        columns->first = offset;
    } else if (offset <= columns->last) {
        PyErr_SetString(PyExc_ValueError, "offsets do not ascend");
        return -1;
    } else if (columns->offsets == NULL && offset != columns->last + 1 && columns_list_offsets(columns) < 0) {
        return -1;
    }
    columns->last = offset;
    if (columns->offsets != NULL) {
        PyObject *number = PyLong_FromLongLong(offset);
        if (number == NULL) {
            return -1;
        }
        PyList_SET_ITEM(columns->offsets, columns->filled, number);
    }
    return 0;
}

static PyObject *
columns_stamp(Columns *columns, int64_t value)
{
    if (columns->stamp == NULL || columns->stamp_value != value) {
        PyObject *stamp = PyLong_FromLongLong(value);
        if (stamp == NULL) {
            return NULL;
        }
        Py_XSETREF(columns->stamp, stamp);
        columns->stamp_value = value;
    }
    return Py_NewRef(columns->stamp);
}

/* One record's parts behind its offset, up to its end, into row `columns->filled`. */
static int
columns_add(Columns *columns, Reader *record, int64_t offset, int64_t timestamp)
{
    int64_t headers;
    Py_ssize_t row = columns->filled;
    PyObject *part = read_bytes(record);
    if (part == NULL) {
        return -1;
    }
    PyList_SET_ITEM(columns->keys, row, part);
    if ((part = read_bytes(record)) == NULL) {
        return -1;
    }
    PyList_SET_ITEM(columns->values, row, part);
    if (read_varint(record, &headers) < 0) {
        PyErr_SetString(PyExc_ValueError, "a record ends before its headers");
        return -1;
    }
    if (headers != 0 && columns->headers == NULL && columns_list_headers(columns) < 0) {
        return -1;
    }
    if (columns->headers != NULL) {
        part = headers != 0 ? read_headers(record, headers) : PyTuple_New(0);
        if (part == NULL) {
            return -1;
        }
        PyList_SET_ITEM(columns->headers, row, part);
    }
    if (record->at != record->end) {
        PyErr_SetString(PyExc_ValueError, "a record is longer than its parts");
        return -1;
    }
    if (columns_add_offset(columns, offset) < 0 || (part = columns_stamp(columns, timestamp)) == NULL) {
        return -1;
    }
    PyList_SET_ITEM(columns->stamps, row, part);
    columns->filled = row + 1;
    return 0;
}

static int
read_into(Columns *columns, Reader *reader, int64_t count, int64_t base_offset, int64_t base_timestamp,
          int append_time, int64_t start)
{
    for (int64_t i = 0; i < count; i++) {
        int64_t length, timestamp, offset;
        if (read_varint(reader, &length) < 0 || length < 1 || length > reader->end - reader->at) {
            PyErr_SetString(PyExc_ValueError, "a record is longer than its batch");
            return -1;
        }
        Reader record = {reader->at + 1, reader->at + length}; /* its first byte is attributes that nothing uses */
        reader->at += length;
        if (read_varint(&record, &timestamp) < 0 || read_varint(&record, &offset) < 0) {
            PyErr_SetString(PyExc_ValueError, "a record ends before its key");
            return -1;
        }
        if (offset < 0 || offset > INT32_MAX) {
            PyErr_SetString(PyExc_ValueError, "a record's offset lies outside of its batch");
            return -1;
        }
        offset += base_offset;
        if (offset < start) { /* a fetch from the middle of a batch returns all of it */
            continue;
        }
        timestamp = append_time ? base_timestamp : (int64_t)((uint64_t)base_timestamp + (uint64_t)timestamp);
        if (columns_add(columns, &record, offset, timestamp) < 0) {
            return -1;
        }
    }
    if (reader->at != reader->end) {
        PyErr_SetString(PyExc_ValueError, "a batch is longer than its records");
        return -1;
    }
    return 0;
}

static void
cut(PyObject *list, Py_ssize_t size)
{
    if (list != NULL) { /* what lies behind was never filled, or belongs to a row that was not finished */
        for (Py_ssize_t i = size; i < Py_SIZE(list); i++) {
            Py_CLEAR(((PyListObject *)list)->ob_item[i]);
        }
        Py_SET_SIZE(list, size);
    }
}

PyDoc_STRVAR(read_records_doc,
"read_records(body, count, base_offset, base_timestamp, append_time, start)\n--\n\n"
"The records of a batch as (keys, values, timestamps, first offset, offsets or None, headers or None).");

static PyObject *
read_records(PyObject *module, PyObject *args)
{
    Py_buffer body;
    long long count, base_offset, base_timestamp, start;
    int append_time;
    if (!PyArg_ParseTuple(args, "y*LLLpL", &body, &count, &base_offset, &base_timestamp, &append_time, &start)) {
        return NULL;
    }
    PyObject *found = NULL;
    Columns columns = {0};
    if (count < 0 || count > body.len / 7) { /* the least that a record takes: its length and six bytes */
        PyErr_Format(PyExc_ValueError, "%lld records do not fit into %zd bytes", count, body.len);
        goto done;
    }
    columns.capacity = (Py_ssize_t)count;
    columns.keys = PyList_New(columns.capacity);
    columns.values = PyList_New(columns.capacity);
    columns.stamps = PyList_New(columns.capacity);
    if (columns.keys == NULL || columns.values == NULL || columns.stamps == NULL) {
        goto done;
    }
    Reader reader = {body.buf, (const uint8_t *)body.buf + body.len};
    if (read_into(&columns, &reader, count, base_offset, base_timestamp, append_time, start) < 0) {
        goto done;
    }
    cut(columns.keys, columns.filled);
    cut(columns.values, columns.filled);
    cut(columns.stamps, columns.filled);
    cut(columns.offsets, columns.filled);
    cut(columns.headers, columns.filled);
    found = Py_BuildValue("(OOOLOO)", columns.keys, columns.values, columns.stamps, (long long)columns.first,
                          columns.offsets ? columns.offsets : Py_None, columns.headers ? columns.headers : Py_None);
done:
    columns_clear(&columns);
    PyBuffer_Release(&body);
    return found;
}

/* ---- writing */

static inline uint64_t
zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static inline Py_ssize_t
size_of_varint(int64_t value)
{
    uint64_t left = zigzag(value);
    Py_ssize_t size = 1;
    while (left >= 0x80) {
        left >>= 7;
        size++;
    }
    return size;
}

static inline uint8_t *
write_varint(uint8_t *at, int64_t value)
{
    uint64_t left = zigzag(value);
    while (left >= 0x80) {
        *at++ = (uint8_t)(left | 0x80);
        left >>= 7;
    }
    *at++ = (uint8_t)left;
    return at;
}

/* How many bytes a key or value takes with its length; -1 with TypeError where it is no bytes. */
static inline Py_ssize_t
size_of_part(PyObject *part)
{
    if (part == Py_None) {
        return 1;
    }
    if (!PyBytes_Check(part)) {
        PyErr_Format(PyExc_TypeError, "a record's key and value are bytes or None, not %.100s", Py_TYPE(part)->tp_name);
        return -1;
    }
    return size_of_varint(PyBytes_GET_SIZE(part)) + PyBytes_GET_SIZE(part);
}

static inline uint8_t *
write_part(uint8_t *at, PyObject *part)
{
    if (part == Py_None) {
        *at++ = 1; /* -1 */
        return at;
    }
    Py_ssize_t size = PyBytes_GET_SIZE(part);
    at = write_varint(at, size);
    memcpy(at, PyBytes_AS_STRING(part), (size_t)size);
    return at + size;
}

/* Headers as one bytes object. Rare, so plain rather than quick. */
static PyObject *
headers_bytes(PyObject *headers)
{
    PyObject *pairs = PySequence_Fast(headers, "headers are a sequence of (name, value)");
    PyObject *out = pairs == NULL ? NULL : PyByteArray_FromStringAndSize(NULL, 0);
    uint8_t number[10];
    if (out != NULL) {
        Py_ssize_t size = write_varint(number, PySequence_Fast_GET_SIZE(pairs)) - number;
        if (PyByteArray_Resize(out, size) < 0) {
            Py_CLEAR(out);
        } else {
            memcpy(PyByteArray_AS_STRING(out), number, (size_t)size);
        }
    }
    for (Py_ssize_t i = 0; out != NULL && i < PySequence_Fast_GET_SIZE(pairs); i++) {
        const char *name;
        PyObject *value;
        Py_ssize_t length, more, have = PyByteArray_GET_SIZE(out);
        PyObject *pair = PySequence_Fast(PySequence_Fast_GET_ITEM(pairs, i), "a header is (name, value)");
        if (pair == NULL || PySequence_Fast_GET_SIZE(pair) != 2
            || (name = PyUnicode_AsUTF8AndSize(PySequence_Fast_GET_ITEM(pair, 0), &length)) == NULL
            || (more = size_of_part(value = PySequence_Fast_GET_ITEM(pair, 1))) < 0
            || PyByteArray_Resize(out, have + size_of_varint(length) + length + more) < 0) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_TypeError, "a header is (name, value)");
            }
            Py_CLEAR(out);
        } else {
            uint8_t *at = write_varint((uint8_t *)PyByteArray_AS_STRING(out) + have, length);
            memcpy(at, name, (size_t)length);
            write_part(at + length, value);
        }
        Py_XDECREF(pair);
    }
    Py_XDECREF(pairs);
    return out;
}

typedef struct {
    PyObject *buffer; /* bytearray */
    int64_t count, first, highest;
    Py_ssize_t limit;
} Writer;

/* 1: written, 0: there is no more room, -1: an error. */
static int
write_record(Writer *writer, PyObject *key, PyObject *value, PyObject *stamp, PyObject *headers)
{
    int64_t timestamp = PyLong_AsLongLong(stamp);
    if (timestamp == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (timestamp < -1) { /* -1 is Kafka's for none */
        PyErr_Format(PyExc_ValueError, "a timestamp is ms since 1970, not %lld", (long long)timestamp);
        return -1;
    }
    Py_ssize_t key_size = size_of_part(key), value_size = size_of_part(value), headers_size = 1;
    if (key_size < 0 || value_size < 0) {
        return -1;
    }
    PyObject *packed = NULL;
    if (headers != NULL && PyObject_IsTrue(headers)) {
        if ((packed = headers_bytes(headers)) == NULL) {
            return -1;
        }
        headers_size = PyByteArray_GET_SIZE(packed);
    }
    int64_t delta = writer->count ? timestamp - writer->first : 0;
    Py_ssize_t body = 1 + size_of_varint(delta) + size_of_varint(writer->count) + key_size + value_size + headers_size;
    Py_ssize_t have = PyByteArray_GET_SIZE(writer->buffer), size = have + size_of_varint(body) + body;
    int result = -1;
    if (writer->count && (size > writer->limit || writer->count > INT32_MAX)) { /* any first record is taken */
        result = 0;
    } else if (PyByteArray_Resize(writer->buffer, size) == 0) {
        uint8_t *at = write_varint((uint8_t *)PyByteArray_AS_STRING(writer->buffer) + have, body);
        *at++ = 0;
        at = write_varint(at, delta);
        at = write_varint(at, writer->count);
        at = write_part(at, key);
        at = write_part(at, value);
        if (packed == NULL) {
            *at = 0;
        } else {
            memcpy(at, PyByteArray_AS_STRING(packed), (size_t)headers_size);
        }
        if (!writer->count) {
            writer->first = timestamp;
        }
        if (!writer->count || timestamp > writer->highest) {
            writer->highest = timestamp;
        }
        writer->count++;
        result = 1;
    }
    Py_XDECREF(packed);
    return result;
}

PyDoc_STRVAR(write_records_doc,
"write_records(buffer, count, first, highest, limit, keys, values, timestamps, headers, rows, at)\n--\n\n"
"Append records to a batch's body in `buffer`, from position `at` of the columns, or of `rows`, on, while it stays\n"
"within `limit` bytes. Returns (next position, count, first timestamp, highest one, exception or None).");

static PyObject *
write_records(PyObject *module, PyObject *args)
{
    Writer writer;
    long long count, first, highest;
    PyObject *columns[4], *chosen, *problem = Py_None;
    Py_ssize_t at, length;
    Py_buffer rows = {0};
    if (!PyArg_ParseTuple(args, "O!LLLnO!O!O!OOn", &PyByteArray_Type, &writer.buffer, &count, &first, &highest,
                          &writer.limit, &PyList_Type, &columns[0], &PyList_Type, &columns[1], &PyList_Type,
                          &columns[2], &columns[3], &chosen, &at)) {
        return NULL;
    }
    writer.count = count, writer.first = first, writer.highest = highest;
    PyObject *headers = columns[3] == Py_None ? NULL : columns[3];
    if (headers != NULL && !PyList_Check(headers)) {
        PyErr_SetString(PyExc_TypeError, "headers are a list or None");
        return NULL;
    }
    if (chosen != Py_None && PyObject_GetBuffer(chosen, &rows, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    const uint32_t *row_at = rows.buf;
    length = chosen == Py_None ? PyList_GET_SIZE(columns[0]) : (Py_ssize_t)(rows.len / sizeof(uint32_t));
    for (; at >= 0 && at < length; at++) {
        Py_ssize_t row = chosen == Py_None ? at : (Py_ssize_t)row_at[at];
        int result;
        if (row >= PyList_GET_SIZE(columns[0]) || row >= PyList_GET_SIZE(columns[1])
            || row >= PyList_GET_SIZE(columns[2]) || (headers != NULL && row >= PyList_GET_SIZE(headers))) {
            PyErr_SetString(PyExc_ValueError, "the columns differ in length");
            result = -1;
        } else {
            result = write_record(&writer, PyList_GET_ITEM(columns[0], row), PyList_GET_ITEM(columns[1], row),
                                  PyList_GET_ITEM(columns[2], row),
                                  headers == NULL ? NULL : PyList_GET_ITEM(headers, row));
        }
        if (result < 0) {
            PyObject *type, *trace;
            PyErr_Fetch(&type, &problem, &trace);
            PyErr_NormalizeException(&type, &problem, &trace);
            Py_XDECREF(type);
            Py_XDECREF(trace);
            break;
        }
        if (result == 0) {
            break;
        }
    }
    if (rows.obj != NULL) {
        PyBuffer_Release(&rows);
    }
    PyObject *found = Py_BuildValue("(nLLLO)", at, (long long)writer.count, (long long)writer.first,
                                    (long long)writer.highest, problem);
    if (problem != Py_None) {
        Py_DECREF(problem);
    }
    return found;
}

/* ---- partitions */

static uint32_t
murmur2(const uint8_t *data, Py_ssize_t length)
{
    const uint32_t m = 0x5BD1E995;
    uint32_t h = 0x9747B28C ^ (uint32_t)length;
    for (; length >= 4; data += 4, length -= 4) {
        uint32_t k = (uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 | (uint32_t)data[3] << 24;
        k *= m;
        k ^= k >> 24;
        k *= m;
        h = h * m ^ k;
    }
    if (length == 3) {
        h ^= (uint32_t)data[2] << 16;
    }
    if (length >= 2) {
        h ^= (uint32_t)data[1] << 8;
    }
    if (length >= 1) {
        h = (h ^ data[0]) * m;
    }
    h ^= h >> 13;
    h *= m;
    return h ^ h >> 15;
}

PyDoc_STRVAR(rows_of_doc,
"rows_of(keys, partitions, keyless)\n--\n\n"
"For each partition the rows whose key belongs to it, as unsigned 32-bit numbers in bytes. `keyless` takes null keys.");

static PyObject *
rows_of(PyObject *module, PyObject *args)
{
    PyObject *keys, *found = NULL;
    unsigned int partitions, keyless;
    if (!PyArg_ParseTuple(args, "O!II", &PyList_Type, &keys, &partitions, &keyless)) {
        return NULL;
    }
    Py_ssize_t count = PyList_GET_SIZE(keys);
    if (partitions < 1 || keyless >= partitions || count > (Py_ssize_t)UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "partitions, rows or the partition of null keys are out of range");
        return NULL;
    }
    uint32_t *targets = PyMem_Malloc(sizeof(uint32_t) * (size_t)(count ? count : 1));
    Py_ssize_t *sizes = PyMem_Calloc(partitions, sizeof(Py_ssize_t));
    uint32_t **ends = PyMem_Calloc(partitions, sizeof(uint32_t *));
    if (targets == NULL || sizes == NULL || ends == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *key = PyList_GET_ITEM(keys, i);
        if (key == Py_None) {
            targets[i] = keyless;
        } else if (PyBytes_Check(key)) {
            const uint8_t *data = (const uint8_t *)PyBytes_AS_STRING(key);
            targets[i] = (murmur2(data, PyBytes_GET_SIZE(key)) & 0x7FFFFFFF) % partitions;
        } else {
            PyErr_Format(PyExc_TypeError, "a record's key is bytes or None, not %.100s", Py_TYPE(key)->tp_name);
            goto done;
        }
        sizes[targets[i]]++;
    }
    found = PyList_New(partitions);
    for (unsigned int p = 0; found != NULL && p < partitions; p++) {
        PyObject *rows = PyBytes_FromStringAndSize(NULL, sizes[p] * (Py_ssize_t)sizeof(uint32_t));
        if (rows == NULL) {
            Py_CLEAR(found);
        } else {
            ends[p] = (uint32_t *)PyBytes_AS_STRING(rows);
            PyList_SET_ITEM(found, p, rows);
        }
    }
    for (Py_ssize_t i = 0; found != NULL && i < count; i++) {
        *ends[targets[i]]++ = (uint32_t)i;
    }
done:
    PyMem_Free(targets);
    PyMem_Free(sizes);
    PyMem_Free(ends);
    return found;
}

static PyMethodDef methods[] = {
    {"read_records", read_records, METH_VARARGS, read_records_doc},
    {"write_records", write_records, METH_VARARGS, write_records_doc},
    {"rows_of", rows_of, METH_VARARGS, rows_of_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "penstock.agents._native",
    .m_doc = "Kafka's records to columns and back.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}
