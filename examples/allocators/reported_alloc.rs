//! A `GlobalAlloc` that reports the blocks of another one to mem_profiler, without the C header: the same note and
//! pointer (mem_profiler.h says what they mean). For allocators that do not call malloc, which counts its own blocks.
//!
//!     #[global_allocator]
//!     static GLOBAL: Reported<Mine> = Reported::new(Mine, b"rust", OWN_PAGES);

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, Ordering};

pub const EXACT: u32 = 1;
pub const OWN_PAGES: u32 = 2;

#[repr(C)]
struct Heap {
    bytes: u32,
    flags: u32,
    of_sampler: [u64; 4],
    name: [u8; 40],
}

#[repr(C)]
struct Calls {
    bytes: u32,
    version: u32,
    allocated: extern "C" fn(*mut Heap, *const u8, usize),
    freed: extern "C" fn(*mut Heap, *const u8),
    resized: extern "C" fn(*mut Heap, *const u8, *const u8, usize),
    emptied: extern "C" fn(*mut Heap),
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
std::arch::global_asm!(
    ".pushsection .bss.mem_profiler_calls_1,\"aw\",%nobits",
    ".balign 8",
    ".weak mem_profiler_calls_1",
    ".hidden mem_profiler_calls_1",
    ".type mem_profiler_calls_1, %object",
    ".size mem_profiler_calls_1, 8",
    "mem_profiler_calls_1:",
    ".zero 8",
    ".popsection",
    ".pushsection .note.mem_profiler,\"a\",%note",
    ".balign 4",
    ".4byte 13, 8, 1",
    ".asciz \"mem_profiler\"",
    ".balign 4",
    ".8byte mem_profiler_calls_1 - .",
    ".popsection",
);

extern "C" {
    static mem_profiler_calls_1: AtomicPtr<Calls>;
}

#[inline(always)]
fn calls() -> Option<&'static Calls> {
    unsafe { mem_profiler_calls_1.load(Ordering::Acquire).as_ref() }
}

pub struct Reported<A> {
    inner: A,
    heap: UnsafeCell<Heap>,
}

unsafe impl<A: Sync> Sync for Reported<A> {}

impl<A> Reported<A> {
    /// Of `name` the first 39 bytes count.
    pub const fn new(inner: A, name: &[u8], flags: u32) -> Self {
        let mut heap = Heap { bytes: 80, flags, of_sampler: [0; 4], name: [0; 40] };
        let mut i = 0;
        while i < name.len() && i < 39 {
            heap.name[i] = name[i];
            i += 1;
        }
        Reported { inner, heap: UnsafeCell::new(heap) }
    }
}

unsafe impl<A: GlobalAlloc> GlobalAlloc for Reported<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.inner.alloc(layout);
        if let Some(calls) = calls() {
            (calls.allocated)(self.heap.get(), block, layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(calls) = calls() {
            (calls.freed)(self.heap.get(), block);
        }
        self.inner.dealloc(block, layout);
    }
}
