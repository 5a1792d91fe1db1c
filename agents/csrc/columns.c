/* The records of a batch to columns. Numbers within a record are zigzag varints. */
#include "native.h"

#define LEAST 7 /* the bytes that a record takes: its length and six more */

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

/* ---- room */

static int
columns_reserve(Columns *columns, Py_ssize_t more)
{
    Py_ssize_t needed = columns->rows + more, room = columns->room + columns->room / 2;
    if (needed <= columns->room) {
        return 0;
    }
    room = room < needed ? needed : room;
    for (int part = 0; part < PARTS; part++) {
        if (part == HEADERS && columns->parts[part] == NULL) {
            continue;
        }
        PyObject **grown = PyMem_Realloc(columns->parts[part], (size_t)room * sizeof(PyObject *));
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        columns->parts[part] = grown;
    }
    int64_t *offsets = PyMem_Realloc(columns->offsets, (size_t)room * sizeof(int64_t));
    if (offsets == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    columns->offsets = offsets;
    columns->room = room;
    return 0;
}

/* From here on records have headers: those before had none. */
static int
columns_list_headers(Columns *columns)
{
    PyObject *none = PyTuple_New(0);
    PyObject **headers = PyMem_Malloc((size_t)columns->room * sizeof(PyObject *));
    if (none == NULL || headers == NULL) {
        Py_XDECREF(none);
        PyMem_Free(headers);
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t row = 0; row < columns->rows; row++) {
        headers[row] = Py_NewRef(none);
    }
    columns->parts[HEADERS] = headers;
    Py_DECREF(none);
    return 0;
}

void
columns_cut(Columns *columns, Py_ssize_t rows)
{
    Py_ssize_t before = columns->rows;
    columns->rows = rows;
    for (int part = 0; part < PARTS; part++) {
        for (Py_ssize_t row = rows; columns->parts[part] != NULL && row < before; row++) {
            Py_DECREF(columns->parts[part][row]);
        }
    }
}

void
columns_free(Columns *columns)
{
    columns_cut(columns, 0);
    for (int part = 0; part < PARTS; part++) {
        PyMem_Free(columns->parts[part]);
    }
    PyMem_Free(columns->offsets);
    Py_XDECREF(columns->stamp);
}

/* ---- records */

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

/* The headers of a record, where it or one before it has any. They end it. */
static int
read_end(Columns *columns, Reader *record, PyObject **headers)
{
    int64_t count;
    if (read_varint(record, &count) < 0) {
        PyErr_SetString(PyExc_ValueError, "a record ends before its headers");
        return -1;
    }
    if (count != 0 && columns->parts[HEADERS] == NULL && columns_list_headers(columns) < 0) {
        return -1;
    }
    if (columns->parts[HEADERS] != NULL
        && (*headers = count != 0 ? read_headers(record, count) : PyTuple_New(0)) == NULL) {
        return -1;
    }
    if (record->at != record->end) {
        PyErr_SetString(PyExc_ValueError, "a record is longer than its parts");
        return -1;
    }
    return 0;
}

/* One record's parts behind its offset, up to its end: a row more, or none and an exception. */
static int
columns_add(Columns *columns, Reader *record, int64_t offset, int64_t timestamp)
{
    Py_ssize_t row = columns->rows;
    PyObject *key, *value = NULL, *stamp = NULL, *headers = NULL;
    if ((key = read_bytes(record)) == NULL || (value = read_bytes(record)) == NULL
        || read_end(columns, record, &headers) < 0 || (stamp = columns_stamp(columns, timestamp)) == NULL) {
        Py_XDECREF(key);
        Py_XDECREF(value);
        Py_XDECREF(headers);
        return -1;
    }
    columns->holes |= row > 0 && (uint64_t)offset - 1 != (uint64_t)columns->offsets[row - 1];
    columns->parts[KEYS][row] = key;
    columns->parts[VALUES][row] = value;
    columns->parts[STAMPS][row] = stamp;
    columns->offsets[row] = offset;
    if (columns->parts[HEADERS] != NULL) {
        columns->parts[HEADERS][row] = headers;
    }
    columns->rows = row + 1;
    return 0;
}

/* A record's place and time, before its key. */
static int
read_place(Reader *record, const Described *described, int64_t *offset, int64_t *timestamp)
{
    if (read_varint(record, timestamp) < 0 || read_varint(record, offset) < 0) {
        PyErr_SetString(PyExc_ValueError, "a record ends before its key");
        return -1;
    }
    if (*offset < 0 || *offset > INT32_MAX || described->base_offset > INT64_MAX - *offset) {
        PyErr_SetString(PyExc_ValueError, "a record's offset lies outside of its batch");
        return -1;
    }
    *offset += described->base_offset;
    *timestamp = described->append_time
                     ? described->base_timestamp
                     : (int64_t)((uint64_t)described->base_timestamp + (uint64_t)*timestamp);
    return 0;
}

int
columns_read(Columns *columns, Reader *body, const Described *described, int64_t start)
{
    Py_ssize_t before = columns->rows, size = body->end - body->at;
    if (described->count < 0 || described->count > size / LEAST) {
        PyErr_Format(PyExc_ValueError, "%lld records do not fit into %zd bytes", (long long)described->count, size);
        return -1;
    }
    if (columns_reserve(columns, (Py_ssize_t)described->count) < 0) {
        return -1;
    }
    for (int64_t i = 0; i < described->count; i++) {
        int64_t length, timestamp, offset;
        if (read_varint(body, &length) < 0 || length < 1 || length > body->end - body->at) {
            PyErr_SetString(PyExc_ValueError, "a record is longer than its batch");
            return -1;
        }
        Reader record = {body->at + 1, body->at + length}; /* its first byte is attributes that nothing uses */
        body->at += length;
        if (read_place(&record, described, &offset, &timestamp) < 0) {
            return -1;
        }
        if (offset < start) { /* a fetch from the middle of a batch returns all of it */
            continue;
        }
        if (columns->rows > before && offset <= columns->offsets[columns->rows - 1]) {
            PyErr_SetString(PyExc_ValueError, "offsets do not ascend");
            return -1;
        }
        if (columns_add(columns, &record, offset, timestamp) < 0) {
            return -1;
        }
    }
    if (body->at != body->end) {
        PyErr_SetString(PyExc_ValueError, "a batch is longer than its records");
        return -1;
    }
    return 0;
}

/* ---- lists */

static PyObject *
listed_offsets(const Columns *columns)
{
    PyObject *found = PyList_New(columns->rows);
    for (Py_ssize_t row = 0; found != NULL && row < columns->rows; row++) {
        PyObject *offset = PyLong_FromLongLong(columns->offsets[row]);
        if (offset == NULL) {
            Py_CLEAR(found);
        } else {
            PyList_SET_ITEM(found, row, offset);
        }
    }
    return found;
}

PyObject *
columns_lists(Columns *columns)
{
    PyObject *lists[PARTS] = {NULL}, *found = NULL;
    Py_ssize_t rows = columns->rows;
    PyObject *offsets = columns->holes ? listed_offsets(columns) : Py_NewRef(Py_None);
    int whole = offsets != NULL;
    for (int part = 0; part < PARTS && whole; part++) {
        lists[part] = columns->parts[part] == NULL && part == HEADERS ? Py_NewRef(Py_None) : PyList_New(rows);
        whole = lists[part] != NULL;
    }
    if (whole) {
        for (int part = 0; part < PARTS && rows > 0; part++) {
            if (lists[part] != Py_None) { /* the references are the list's from here on */
                memcpy(((PyListObject *)lists[part])->ob_item, columns->parts[part], (size_t)rows * sizeof(PyObject *));
            }
        }
        columns->rows = 0;
        found = Py_BuildValue("(OOOLOO)", lists[KEYS], lists[VALUES], lists[STAMPS],
                              (long long)(rows > 0 ? columns->offsets[0] : 0), offsets, lists[HEADERS]);
    }
    Py_XDECREF(offsets);
    for (int part = 0; part < PARTS; part++) {
        Py_XDECREF(lists[part]);
    }
    return found;
}

const char read_records_doc[] = PyDoc_STR(
"read_records(body, count, base_offset, base_timestamp, append_time, start)\n--\n\n"
"The records of a batch as (keys, values, timestamps, first offset, offsets or None, headers or None).");

PyObject *
read_records(PyObject *module, PyObject *args)
{
    Py_buffer data;
    long long count, base_offset, base_timestamp, start;
    int append_time;
    if (!PyArg_ParseTuple(args, "y*LLLpL", &data, &count, &base_offset, &base_timestamp, &append_time, &start)) {
        return NULL;
    }
    Columns columns = {0};
    Reader body = {data.buf, (const uint8_t *)data.buf + data.len};
    Described described = {count, base_offset, base_timestamp, append_time};
    PyObject *found = columns_read(&columns, &body, &described, start) < 0 ? NULL : columns_lists(&columns);
    columns_free(&columns);
    PyBuffer_Release(&data);
    return found;
}
