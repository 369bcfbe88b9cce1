"""The libraries that are known: one row each, with the reason why it is one.

A function that matches a row is not charged with blocks: its caller is. So a row belongs here only
if the function's name says nothing about who wants the memory. Names are those that reports show,
without parameters and template arguments. `docs/reports.md` says how a project adds rows.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mem_parser.python.functions import LIBRARY_FOLDER
from mem_parser.startframes import CONSTRUCTORS, PROGRAM_START, THREAD_START
from mem_parser.symbols.table import Role


class By(enum.Enum):
    """The kind of match of a row's pattern: the whole text by default."""

    NAME = "name"
    RUST_NAME = "name of a Rust function"
    """Only of names without parameters: C++ may have namespaces called `core` or `alloc`."""
    RUST_TYPE = "type and trait of a Rust function"
    """Of `<type as trait>::function` the start of both, of `<type>::function` that of one."""
    MODULE = "file name of the module"
    SOURCE = "source file"
    """Any part of it."""
    PYTHON = "source file of a Python function"
    """Any part of it. No other row is about Python functions."""
    BESIDE_PYTHON = "path of the module"
    """Any part of it; only where stacks have Python frames for native ones to be charged to."""
    PATH = "part of the path of the module"
    """For file names that programs have too."""
    MADE = "whole name of code that a runtime made"
    """As the runtime lists it, with types, parameters and script."""


@dataclass(frozen=True, slots=True)
class Library:
    """One row; ``pattern`` is a regular expression. Texts are hostile: none may take more time than
    its length asks for. ``is_guess``: it is about no project, so reports name what it matched.
    """

    by: By
    role: Role
    pattern: str
    reason: str
    is_guess: bool = False


_PREFIX = (
    r"(?:[a-z]{1,2}_{0,2}|z?try_?|my_?|our_?|safe_?|check(?:ed)?_?|must_?|mem_?"
    r"|secure_?|wrap(?:ped)?_?|debug_?|dbg_?|util_?|xml|json_|jsonp_|curl_|lws_|event_(?:mm_)?|opt_|heap_?"
    r"|(?:[a-z0-9]+_)+_)?"  # a project's: git__malloc, mosquitto__calloc
)
_SUFFIX = (
    r"(?:_(?:usable|internal|num|node|array|zero|cache|aligned|safe|or_die|or_abort|n|ex|nothrow"
    r"|check(?:ed)?|wrap(?:per)?|impl|inner|debug|dbg|with_flags|fast|slow|shared|bytes)){0,3}"
)
_RUST = r"(?:alloc|core|std|hashbrown|proc_macro)"
_VERSION = r"(?:-[\d.]+)?\.so(?:\.\S*)?"

LIBRARIES = (
    # Allocators of programs, by the names that they have everywhere.
    Library(
        By.NAME, Role.WRAPPER,
        rf"(?:\w+::)*(?i:_{{0,2}}{_PREFIX}(?:m|c|z|re)alloc(?:z|0|f|n|array)?{_SUFFIX})",
        "xmalloc, zmalloc_usable, g_malloc0, my_calloc: malloc under a project's own name",
        is_guess=True,
    ),
    Library(
        By.NAME, Role.WRAPPER,
        rf"(?i:_{{0,2}}{_PREFIX}(?:memdup|strn?dup|v?asprintf|memalign|alloc_or_die)0?{_SUFFIX})",
        "copies of texts and bytes, printf into memory",
        is_guess=True,
    ),
    Library(
        By.NAME, Role.WRAPPER,
        r"(?:re)?palloc(?:0|_extended|0fast|_aligned)?|MemoryContextAlloc\w*|AllocSet(?:Alloc|Realloc|ContextCreate)\w*"
        r"|GenerationAlloc\w*|SlabAlloc\w*|pnstrdup|psprintf|guc_malloc|pg_malloc\w*",
        "PostgreSQL's memory contexts",
    ),
    Library(
        By.NAME, Role.WRAPPER,
        r"ngx_(?:alloc|calloc|memalign|p?n?c?alloc\w*|pmemalign|create_pool|array_(?:create|push\w*)"
        r"|list_(?:create|push)|create_temp_buf|alloc_chain_link)",
        "nginx's pools, and the containers in them",
    ),
    Library(
        By.NAME, Role.WRAPPER,
        r"apr_(?:p?c?alloc\w*|pstrdup|pstrndup|pstrmemdup|pmemdup|psprintf|pvsprintf|pool_create\w*"
        r"|allocator_alloc|array_(?:make|push\w*)|table_(?:make|set|add)\w*|hash_(?:make|set)\w*)",
        "Apache's pools, and the containers in them",
    ),
    Library(
        By.NAME, Role.WRAPPER,
        r"sqlite3(?:Malloc\w*|DbMalloc\w*|DbRealloc\w*|DbStrN?Dup|Realloc|MemMalloc|MemRealloc"
        r"|_malloc\w*|_realloc\w*|_mprintf|_vmprintf|MPrintf|VMPrintf)|pcache1Alloc|memsys\wMalloc\w*",
        "SQLite's allocation layer",
    ),
    Library(
        By.NAME, Role.WRAPPER,
        r"luaM_\w+|l_alloc|luaL_(?:Buffer|prepbuffsize|addlstring|pushresult)\w*",
        "Lua's allocation layer",
    ),
    Library(
        By.NAME, Role.WRAPPER,
        r"ruby_x\w*alloc\w*|objspace_x\w*alloc\w*|rb_alloc_tmp_buffer\w*|_?e(?:malloc|calloc|realloc)\w*"
        r"|_?safe_e\w*alloc\w*|__zend_\w*alloc\w*|zend_mm_\w*alloc\w*|Perl_safesys\w*alloc|Newx\w*"
        r"|R_alloc|R_chk_\w*alloc",
        "the allocation layers of Ruby, PHP, Perl and R",
    ),
    Library(
        By.NAME, Role.WRAPPER,
        r"OPENSSL_(?:malloc|strdup|memdup)\w*|CRYPTO_\w*(?:alloc|dup)\w*|BUF_(?:mem)?(?:strdup|memdup)"
        r"|BUF_MEM_grow\w*",
        "OpenSSL's allocation layer",
    ),
    Library(
        By.NAME, Role.WRAPPER,
        r"swift_(?:slowAlloc\w*|allocObject\w*|initStackObject)|_objc_root\w*[aA]lloc\w*"
        r"|_gfortran_\w*alloc\w*|GC_(?:malloc|generic_malloc|core_malloc)\w*|mono_\w*alloc\w*",
        "object allocation of language runtimes",
    ),
    # CPython and its extensions.
    Library(
        By.NAME, Role.WRAPPER,
        r"_?Py(?:Mem|DataMem|ObjectArena)_\w+|_?PyObject_(?:Malloc|Calloc|Realloc|New|NewVar)"
        r"|_?PyObject_Debug\w+|_?PyObject_GC_(?:New|NewVar|Malloc|Calloc|Alloc|Resize|Link)"
        r"|_?PyObject_\w*Arena\w*|PyType_GenericAlloc|_PyType_AllocNoTrack|gc_alloc|_PyMem_\w+",
        "CPython's allocation layer: every object comes through it",
    ),
    Library(
        By.NAME, Role.WRAPPER,
        r"_?npy_alloc_cache\w*|default_(?:m|c|re)alloc|PyArray_NewFromDescr\w*|PyArray_New"
        r"|PyArray_NewLikeArray\w*|PyArray_(?:Zeros|Empty)(?:_int)?|PyArray_NewCopy"
        r"|PyArray_malloc\w*|npy_dtype_info_\w*alloc\w*|gentype_alloc|npyiter_new_temp_array",
        "numpy's allocation layer, and how it makes every array",
    ),
    Library(
        By.NAME, Role.WRAPPER,
        r"c10::(?:alloc_cpu|\w*Allocator::\w+|StorageImpl::StorageImpl)|at::detail::empty_\w+"
        r"|at::native::empty_\w+|at::detail::\w*[aA]llocate\w*"
        r"|at::(?:\(anonymous namespace\)|native)::(?:structured_\w+::)?"
        r"(?:set_output_\w+|create_out)"
        r"|ideep::tensor::init|mm_internal_(?:m|c|re)alloc|mkl_serv_\w*alloc\w*",
        "torch's allocation layer, that of the libraries below it, and how it makes every tensor",
    ),
    Library(
        By.NAME, Role.LIBRARY, r"c10::impl::wrap_kernel_functor_(?:un)?boxed_?\w*::call",
        "torch's dispatcher, into which kernels are inlined",
    ),
    Library(
        By.PYTHON, Role.LIBRARY, rf"{LIBRARY_FOLDER}|^<frozen ",
        "Python's standard library, and installed packages",
    ),
    Library(
        By.PYTHON, Role.LIBRARY,
        r"^<(?:__array_function__ internals|decorator-gen-\d+|attrs generated |eval_with_key"
        r"|lambdifygenerated-)",
        "code that numpy, decorator, attrs, torch.fx and sympy make as the program runs",
    ),
    Library(
        By.BESIDE_PYTHON, Role.LIBRARY, LIBRARY_FOLDER,
        "extension modules of Python's standard library and of installed packages",
    ),
    Library(
        By.BESIDE_PYTHON, Role.LIBRARY,
        r"/lib(?:(?:c10|torch|mkl)(?:_\w+)?|dnnl|(?:open)?blas\w*|lapack|arrow\w*|cudart|cublas\w*"
        r"|cudnn\w*|nccl)(?:-[\w.-]+)?\.so[\d.]*$",
        "libraries of torch, numpy and pandas that a distribution keeps with its others",
    ),
    # C++.
    Library(
        By.NAME, Role.LIBRARY,
        r"(?:virtual thunk to |non-virtual thunk to )?"
        r"(?:std|__gnu_cxx|__cxxabiv1|__cxx11|__detail|__gnu_parallel)::.*",
        "the C++ standard library: containers, strings, streams, function objects",
    ),
    Library(
        By.NAME, Role.LIBRARY, r"__cxa_\w+|__gxx_\w+|_Unwind_\w+", "the C++ runtime",
    ),
    Library(
        By.NAME, Role.LIBRARY,
        r"(?:boost|absl|folly|fmt|tbb|eastl|phmap|robin_hood|ankerl|tsl|ska|google::dense_hash\w*"
        r"|google::sparse_hash\w*|moodycamel|oneapi::tbb|gtl|plf|immer|rapidjson)::.*",
        "generic C++ libraries: containers, strings, pools",
    ),
    Library(
        By.NAME, Role.LIBRARY,
        r"(?:QtPrivate::.*|QArrayData|QListData|QHashData|QMapDataBase|QList|QVector|QHash|QMap|QSet"
        r"|QVarLengthArray|QByteArray|QString|QStringBuilder)(?:::.*)?",
        "Qt's containers and strings",
    ),
    Library(
        By.NAME, Role.LIBRARY,
        r"llvm::(?:SmallVector\w*|DenseMap\w*|StringMap\w*|SmallPtrSet\w*|FoldingSet\w*"
        r"|BumpPtrAllocator\w*|allocate_buffer|safe_\w*alloc)(?:::.*)?",
        "LLVM's containers",
    ),
    # C.
    Library(
        By.NAME, Role.WRAPPER,
        r"g_(?:malloc|try_malloc|realloc|try_realloc|memdup|slice|strdup|strndup|strconcat|strjoin"
        r"|aligned_alloc|rc_box|atomic_rc_box)\w*",
        "GLib's allocation layer",
    ),
    Library(
        By.NAME, Role.LIBRARY,
        r"g_(?:array|ptr_array|byte_array|hash_table|list|slist|queue|string|tree|node|sequence"
        r"|variant_builder)_\w+",
        "GLib's containers",
    ),
    Library(
        By.NAME, Role.LIBRARY,
        r"_?sds(?:_\w+|new\w*|empty\w*|dup|cat\w*|cpy\w*|grow\w*|from\w*|split\w*|join\w*|MakeRoomFor\w*"
        r"|Resize|RemoveFreeSpace)|_sds\w+",
        "sds, the strings of redis and others",
    ),
    # Rust.
    Library(
        By.RUST_NAME, Role.LIBRARY, rf"{_RUST}::.*|__rust_\w+|__rustc::.*",
        "Rust's standard library",
    ),
    Library(
        By.RUST_TYPE, Role.LIBRARY,
        rf"(?:[&*]|mut |const |dyn )*(?:[A-Z]\w?$|\[|\(|(?:str|char|bool|[iu](?:\d+|size)|f\d+)$"
        rf"|{_RUST}::)",
        "a type of Rust's standard library, or any type, in a trait of that library",
    ),
    Library(
        By.SOURCE, Role.LIBRARY, r"^/rustc/[0-9a-f]+/|^/rust/deps/|/rustlib/src/rust/library/",
        "Rust's standard library, by where it was built",
    ),
    Library(
        By.SOURCE, Role.LIBRARY,
        r"^/usr/(?:local/)?include/|/include/(?:c\+\+|boost|absl|folly)/|/libstdc\+\+-v3/",
        "headers of the system and of generic libraries: templates with any name",
    ),
    # Go.
    Library(
        By.NAME, Role.LIBRARY,
        r"runtime\..+|(?:internal/)?runtime/.*|x?_cgo_\w+|[^\s()]+\._(?:cgo|Cfunc|C2func)_\w+(?:\.abi0)?",
        "Go's runtime, and how cgo calls C",
    ),
    # HotSpot and V8: the runtimes, the JDK's native libraries, and code in Java and JavaScript.
    Library(
        By.NAME, Role.WRAPPER,
        r"(?:Reallocate|Allocate)Heap|Arena::(?:Arena|grow|\w*[Aa]lloc\w*)"
        r"|Chunk(?:Pool)?::(?:allocate\w*|operator new)|resource_(?:re)?allocate_bytes"
        r"|os::(?:\w+_)?(?:reserve|commit|uncommit)_memory\w*|commit_memory_impl|anon_mmap"
        r"|(?:Reserved(?:Code|Heap)?|Virtual|G1PageBasedVirtual|PSVirtual)Space::\w+",
        "HotSpot's allocation layer, and that of mappings",
    ),
    Library(
        By.NAME, Role.PROGRAM,
        r"(?:G1)?HeapRegionManager::\w+|Universe::reserve_heap|Metaspace::\w+|Code(?:Heap|Cache)::\w+"
        r"|StackOverflow::\w+",
        "the JVM's Java heap, metaspace, code cache and stacks: asked for, whoever runs",
    ),
    Library(
        By.NAME, Role.WRAPPER,
        r"v8::internal::(?:Alloc(?:AtLeast)?WithRetry|NewArray|Malloced::operator new"
        r"|AccountingAllocator::AllocateSegment|Zone::(?:New)?Expand"
        r"|Heap::AllocateExternalBackingStore|VirtualMemory(?:Cage)?::\w+|AllocatePages"
        r"|MemoryAllocator::Allocate\w+)|v8::base::OS::Allocate\w*|node::NodeArrayBufferAllocator::(?:Rea|A)llocate\w*",
        "V8's allocation layer, and node's of array buffers",
    ),
    Library(By.NAME, Role.RUNTIME, r"(?:v8|cppgc|heap::base)::.*|Builtins_\w+", "V8"),
    Library(
        By.MODULE, Role.RUNTIME,
        r"lib(?:jvm|jli|java|jimage|jdwp|jsig)\.so|lib(?:node|v8(?:_\w+)?)\.so[\d.]*",
        "HotSpot with its launcher, and V8 and node as files",
    ),
    Library(
        By.PATH, Role.RUNTIME, r"(?:^|/)bin/(?:java|node|nodejs)$",
        "the programs: OpenSSL, libuv and ICU are in node's",
    ),
    Library(
        By.PATH, Role.RUNTIME,
        r"/(?:jvm|jre|jdk|java|openjdk)[^/]*/(?:[^/]+/)?lib/(?:\w+/)?lib(?:nio|net|extnet|zip"
        r"|verify|instrument|management(?:_\w+)?|prefs|attach|awt\w*|fontmanager|mlib_image|lcms|javajpeg"
        r"|dt_socket|rmi|jaas|sctp|jsound|splashscreen)\.so$",
        "the JDK's native libraries",
    ),
    Library(
        By.MADE, Role.LIBRARY,
        r"(?:[\w.$\[\]]+ )?(?:java|javax|jdk|sun|com\.sun)\.[\w.$/+<>-]+(?:\(.*\))?",
        "Java's standard library",
    ),
    Library(
        By.MADE, Role.LIBRARY,
        r"Interpreter|StubRoutines.*|\S+ Runtime1 stub|I2C/C2I adapters.*|MethodHandle.*adapters?.*"
        r"|vtable chunks|(?:Builtin|BytecodeHandler|Stub|Handler|RegExp):.*",
        "HotSpot's interpreter and stubs, V8's code that no script wrote",
    ),
    Library(
        By.MADE, Role.LIBRARY,
        r"(?:JS|LazyCompile|Function|Script|Eval):(?:[^:]* )?(?:node:|[^ ]*/node_modules/).*",
        "node's own scripts, and installed packages",
    ),
    # What calls the program.
    Library(
        By.NAME, Role.START,
        rf"{PROGRAM_START}|{THREAD_START}|{CONSTRUCTORS}",
        "the code before `main` and before the function of a thread",
    ),
    # Runtimes as a whole: whatever of them asks for memory does so for its caller.
    Library(
        By.MODULE, Role.LIBRARY,
        rf"(?:libc|libm|libdl|librt|libpthread|libresolv){_VERSION}|ld(?:-linux\S*|64|-musl\S*)?"
        r"(?:-[\d.]+)?\.so(?:\.\S*)?",
        "libc: strdup, getline, fopen, qsort",
    ),
    Library(
        By.MODULE, Role.LIBRARY,
        rf"lib(?:stdc\+\+|c\+\+(?:abi|_shared)?|gcc_s|unwind(?:-\w+)?|gomp|omp|tbb|tbbmalloc){_VERSION}",
        "runtimes of C++ and OpenMP",
    ),
    Library(
        By.MODULE, Role.LIBRARY,
        rf"lib(?:glib|gobject|apr|talloc|folly|fmt|boost_\w+|absl_\w+|ffi){_VERSION}",
        "generic libraries: GLib, APR, talloc, folly, fmt, Boost, Abseil, libffi",
    ),
    Library(
        By.MODULE, Role.LIBRARY, r"libstd-[0-9a-f]+\.so", "Rust's standard library as a file",
    ),
)  # fmt: skip
