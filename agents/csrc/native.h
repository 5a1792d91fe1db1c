/* What the files of penstock.agents._native have in common.
 *
 * The record path in C: wire batches to columns, columns to the records of one (message format 2), and the partitions of
 * keys. Each function has a counterpart in Python beside it (kafka/reading/unread.py, kafka/wire.py,
 * kafka/writing/rows.py, partitioner.py), which is used where this module was not built and which the tests hold it
 * against. Nothing here keeps state of its own, calls back into Python code, or trusts a length that it reads.
 *
 * The format: https://kafka.apache.org/documentation/#messageformat.
 */
#ifndef PENSTOCK_NATIVE_H
#define PENSTOCK_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__)
#pragma GCC visibility push(hidden) /* between these files, and for nobody else */
#endif

/* ---- numbers as they lie on the wire, the highest byte first */

static inline uint32_t
uint32_at(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | (uint32_t)at[3];
}

static inline int16_t
int16_at(const uint8_t *at)
{
    return (int16_t)(uint16_t)((unsigned)at[0] << 8 | (unsigned)at[1]);
}

static inline int32_t
int32_at(const uint8_t *at)
{
    return (int32_t)uint32_at(at);
}

static inline int64_t
int64_at(const uint8_t *at)
{
    return (int64_t)((uint64_t)uint32_at(at) << 32 | uint32_at(at + 4));
}

/* ---- columns.c */

#define LEAST 7 /* the bytes that a record takes: its length and six more */

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} Reader;

enum { KEYS, VALUES, STAMPS, OFFSETS, HEADERS, PARTS };

/* Records as columns while they are gathered: lists as long as there is room, cut at the end. All zeros is the empty
 * one. */
typedef struct {
    PyObject *parts[PARTS]; /* OFFSETS is NULL until there is a hole, HEADERS until a record has any */
    Py_ssize_t rows, room;
    int64_t first, last; /* offsets */
    int64_t stamp_value;
    PyObject *stamp; /* the newest one: runs of equal timestamps share an object */
} Columns;

/* What a batch's header says of its records. */
typedef struct {
    int64_t count, base_offset, base_timestamp;
    int append_time; /* whether `base_timestamp` is that of all */
} Described;

/* Add the records from offset `start` on. -1 with an exception, ValueError where they are not what was described: rows
 * that were added before it are there then. */
int columns_read(Columns *columns, Reader *body, const Described *described, int64_t start);

/* Make room for so many rows more at once. -1 with an exception. */
int columns_reserve(Columns *columns, Py_ssize_t more);

/* (keys, values, timestamps, first offset, offsets or None, headers or None) of the rows before `rows`. Nothing is added
 * from then on. */
PyObject *columns_lists(Columns *columns, Py_ssize_t rows);

/* Give back all memory. */
void columns_free(Columns *columns);

/* ---- checksum.c */

/* CRC-32C of some bytes. */
uint32_t checksum_of(const uint8_t *data, Py_ssize_t size);

/* Make its tables. */
void checksum_start(void);

/* ---- what Python sees: a function of each file, and its docstring */

extern const char checksum_doc[], read_batches_doc[], read_records_doc[], rows_of_doc[], write_records_doc[];

PyObject *checksum(PyObject *module, PyObject *args);
PyObject *read_batches(PyObject *module, PyObject *args);
PyObject *read_records(PyObject *module, PyObject *args);
PyObject *rows_of(PyObject *module, PyObject *args);
PyObject *write_records(PyObject *module, PyObject *args);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
