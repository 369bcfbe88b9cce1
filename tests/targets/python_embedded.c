/*
 * python_embedded.c - a program that begins and ends an interpreter several times, and calls it from threads.
 *
 *   python_embedded ROUNDS HOME
 *   python_embedded -c TEXT...
 *
 * Each TEXT is run in an interpreter of its own, one after another. Each round runs a script of its own file name, as long as those of the others; from the third call on by a
 * thread that C made. `grab` allocates and frees a block of BLOCK_BYTES. The program uses type objects of the
 * library: without position-independent code it has copies of them.
 */
#include <Python.h>

#include <pthread.h>
#include <stdlib.h>

#define BLOCK_BYTES 3000001

static PyObject *grab(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    void *volatile block = malloc(BLOCK_BYTES);
    free(block);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {{"grab", grab, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "host", NULL, -1, methods, NULL, NULL, NULL, NULL};

static PyObject *init_host(void) {
    return PyModule_Create(&module);
}

static void run_script(unsigned round) {
    char file[32], text[128];
    snprintf(file, sizeof file, "/made/round_%u.py", round);
    snprintf(text, sizeof text,
             "import host\ndef work():\n    host.grab()\n%s    host.grab()\nwork()\n",
             round & 1 ? "\n" : "");
    PyObject *code = Py_CompileString(text, file, Py_file_input);
    PyObject *globals = PyDict_New();
    if (code == NULL || Py_TYPE(code) != &PyCode_Type)
        abort();
    PyDict_SetItemString(globals, "__builtins__", PyEval_GetBuiltins());
    PyObject *name = PyUnicode_FromString("__main__");
    if (!PyObject_TypeCheck(name, &PyUnicode_Type))
        abort();
    PyDict_SetItemString(globals, "__name__", name);
    PyObject *result = PyEval_EvalCode(code, globals, globals);
    if (result == NULL) {
        PyErr_Print();
        abort();
    }
    Py_DECREF(result);
    Py_DECREF(name);
    Py_DECREF(globals);
    Py_DECREF(code);
}

static void *run_in_thread(void *round) {
    PyGILState_STATE state = PyGILState_Ensure();
    run_script((unsigned)(uintptr_t)round);
    PyGILState_Release(state);
    return NULL;
}

static int run_texts(char **text) {
    for (; *text != NULL; text++) {
        Py_Initialize();
        if (PyRun_SimpleString(*text) != 0 || Py_FinalizeEx() != 0)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "-c") == 0)
        return run_texts(argv + 2);
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 2;
    setenv("PYTHONHOME", argc > 2 ? argv[2] : "", 1);
    PyImport_AppendInittab("host", init_host);
    for (unsigned round = 0; round < rounds; round++) {
        pthread_t thread;
        Py_Initialize();
        run_script(round);
        if (round >= 2) {
            PyThreadState *main_state = PyEval_SaveThread();
            pthread_create(&thread, NULL, run_in_thread, (void *)(uintptr_t)round);
            pthread_join(thread, NULL);
            PyEval_RestoreThread(main_state);
        }
        Py_Finalize();
        grab(NULL, NULL); /* no interpreter is there */
    }
    return 0;
}
