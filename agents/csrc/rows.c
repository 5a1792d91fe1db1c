/* Rows of columns to the records of a batch: what kafka/writing/rows.py gathers. */
#include "native.h"

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

const char write_records_doc[] = PyDoc_STR(
"write_records(buffer, count, first, highest, limit, keys, values, timestamps, headers, rows, at)\n--\n\n"
"Append records to a batch's body in `buffer`, from position `at` of the columns, or of `rows`, on, while it stays\n"
"within `limit` bytes. Returns (next position, count, first timestamp, highest one, exception or None).");

PyObject *
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
