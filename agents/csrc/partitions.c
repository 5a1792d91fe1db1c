/* The partitions of keys, by murmur2 as Kafka's own producers have it. */
#include "native.h"

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

const char rows_of_doc[] = PyDoc_STR(
"rows_of(keys, partitions, keyless)\n--\n\n"
"For each partition the rows whose key belongs to it, as unsigned 32-bit numbers in bytes. `keyless` takes null keys.");

PyObject *
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
