/* penstock.agents._native: see native.h. */
#include "native.h"

static PyMethodDef methods[] = {
    {"checksum", checksum, METH_VARARGS, checksum_doc},
    {"read_batches", read_batches, METH_VARARGS, read_batches_doc},
    {"read_records", read_records, METH_VARARGS, read_records_doc},
    {"rows_of", rows_of, METH_VARARGS, rows_of_doc},
    {"write_records", write_records, METH_VARARGS, write_records_doc},
    {NULL, NULL, 0, NULL},
};

static int
start(PyObject *module)
{
    checksum_start();
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, start},
    {0, NULL},
};

static struct PyModuleDef module = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "penstock.agents._native",
    .m_doc = "Kafka's records to columns and back.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&module);
}
