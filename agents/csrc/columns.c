/* The records of a batch to columns. Numbers within a record are zigzag varints. */
#include "native.h"

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

/* A list with room for more, to which the rows of the one before go over. */
static PyObject *
roomier(PyObject *before, Py_ssize_t rows, Py_ssize_t room)
{
    PyObject *list = PyList_New(room);
    if (list != NULL && before != NULL && rows > 0) {
        memcpy(((PyListObject *)list)->ob_item, ((PyListObject *)before)->ob_item, (size_t)rows * sizeof(PyObject *));
        Py_SET_SIZE(before, 0); /* the references are the new list's */
    }
    if (list != NULL) {
        Py_XDECREF(before);
    }
    return list;
}

int
columns_reserve(Columns *columns, Py_ssize_t more)
{
    Py_ssize_t needed = columns->rows + more, room = columns->room + columns->room / 2;
    if (needed <= columns->room && columns->parts[KEYS] != NULL) {
        return 0;
    }
    room = room < needed ? needed : room;
    for (int part = 0; part < PARTS; part++) {
        if (part < OFFSETS || columns->parts[part] != NULL) {
            PyObject *list = roomier(columns->parts[part], columns->rows, room);
            if (list == NULL) {
                return -1;
            }
            columns->parts[part] = list;
        }
    }
    columns->room = room;
    return 0;
}

/* From here on offsets have holes: write down those that were dense. */
static int
columns_list_offsets(Columns *columns)
{
    PyObject *list = columns->parts[OFFSETS] = PyList_New(columns->room);
    for (Py_ssize_t row = 0; list != NULL && row < columns->rows; row++) {
        PyObject *offset = PyLong_FromLongLong(columns->first + row);
        if (offset == NULL) {
            return -1;
        }
        PyList_SET_ITEM(list, row, offset);
    }
    return list == NULL ? -1 : 0;
}

/* From here on records have headers: those before had none. */
static int
columns_list_headers(Columns *columns)
{
    PyObject *none = PyTuple_New(0), *list = none == NULL ? NULL : PyList_New(columns->room);
    columns->parts[HEADERS] = list;
    for (Py_ssize_t row = 0; list != NULL && row < columns->rows; row++) {
        PyList_SET_ITEM(list, row, Py_NewRef(none));
    }
    Py_XDECREF(none);
    return list == NULL ? -1 : 0;
}

void
columns_free(Columns *columns)
{
    for (int part = 0; part < PARTS; part++) {
        Py_XDECREF(columns->parts[part]);
    }
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

/* The headers of a record, which end it, into its row. */
static int
columns_add_headers(Columns *columns, Reader *record)
{
    int64_t count;
    if (read_varint(record, &count) < 0) {
        PyErr_SetString(PyExc_ValueError, "a record ends before its headers");
        return -1;
    }
    if (count != 0 && columns->parts[HEADERS] == NULL && columns_list_headers(columns) < 0) {
        return -1;
    }
    if (columns->parts[HEADERS] != NULL) {
        PyObject *headers = count != 0 ? read_headers(record, count) : PyTuple_New(0);
        if (headers == NULL) {
            return -1;
        }
        PyList_SET_ITEM(columns->parts[HEADERS], columns->rows, headers);
    }
    if (record->at != record->end) {
        PyErr_SetString(PyExc_ValueError, "a record is longer than its parts");
        return -1;
    }
    return 0;
}

static int
columns_add_offset(Columns *columns, int64_t offset)
{
    if (columns->rows == 0) {
        columns->first = offset;
    } else if (columns->parts[OFFSETS] == NULL && (uint64_t)offset - 1 != (uint64_t)columns->last
               && columns_list_offsets(columns) < 0) {
        return -1;
    }
    columns->last = offset;
    if (columns->parts[OFFSETS] != NULL) {
        PyObject *number = PyLong_FromLongLong(offset);
        if (number == NULL) {
            return -1;
        }
        PyList_SET_ITEM(columns->parts[OFFSETS], columns->rows, number);
    }
    return 0;
}

/* One record's parts behind its offset, up to its end: a row more. Where that fails, with an exception, what there is of
 * the row belongs to the lists. */
static int
columns_add(Columns *columns, Reader *record, int64_t offset, int64_t timestamp)
{
    Py_ssize_t row = columns->rows;
    PyObject *part = read_bytes(record);
    if (part == NULL) {
        return -1;
    }
    PyList_SET_ITEM(columns->parts[KEYS], row, part);
    if ((part = read_bytes(record)) == NULL) {
        return -1;
    }
    PyList_SET_ITEM(columns->parts[VALUES], row, part);
    if (columns_add_headers(columns, record) < 0 || columns_add_offset(columns, offset) < 0
        || (part = columns_stamp(columns, timestamp)) == NULL) {
        return -1;
    }
    PyList_SET_ITEM(columns->parts[STAMPS], row, part);
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
        if (columns->rows > before && offset <= columns->last) {
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

PyObject *
columns_lists(Columns *columns, Py_ssize_t rows)
{
    if (columns_reserve(columns, 0) < 0) { /* there may be no lists yet */
        return NULL;
    }
    for (int part = 0; part < PARTS; part++) {
        PyObject *list = columns->parts[part];
        if (list == NULL) {
            columns->parts[part] = Py_NewRef(Py_None);
            continue;
        }
        for (Py_ssize_t row = rows; row < Py_SIZE(list) && row <= columns->rows; row++) {
            Py_CLEAR(((PyListObject *)list)->ob_item[row]); /* a row that is not wanted, or was not finished */
        }
        Py_SET_SIZE(list, rows);
    }
    return Py_BuildValue("(OOOLOO)", columns->parts[KEYS], columns->parts[VALUES], columns->parts[STAMPS],
                         (long long)columns->first, columns->parts[OFFSETS], columns->parts[HEADERS]);
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
    PyObject *found = columns_read(&columns, &body, &described, start) < 0 ? NULL : columns_lists(&columns, columns.rows);
    columns_free(&columns);
    PyBuffer_Release(&data);
    return found;
}
