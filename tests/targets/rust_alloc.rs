//! A Rust program whose global allocator is a jemalloc linked in with a prefix, as most Rust services have it,
//! beside a C library with a malloc of its own.
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;

extern "C" {
    fn _rjem_mallocx(size: usize, flags: i32) -> *mut u8;
    fn _rjem_rallocx(p: *mut u8, size: usize, flags: i32) -> *mut u8;
    fn _rjem_sdallocx(p: *mut u8, size: usize, flags: i32);
    fn malloc(size: usize) -> *mut u8;
}

struct Jemalloc;

unsafe impl GlobalAlloc for Jemalloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        _rjem_mallocx(layout.size(), 0)
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        _rjem_sdallocx(p, layout.size(), 0)
    }
    unsafe fn realloc(&self, p: *mut u8, _: Layout, size: usize) -> *mut u8 {
        _rjem_rallocx(p, size, 0)
    }
}

#[global_allocator]
static GLOBAL: Jemalloc = Jemalloc;

#[inline(never)]
#[no_mangle]
fn rust_boxes() {
    for i in 0..100 {
        let block = black_box(Box::new([i as u8; 48]));
        if i >= 40 {
            std::mem::forget(block);
        }
    }
}

#[inline(never)]
#[no_mangle]
fn rust_vector() {
    let mut bytes: Vec<u8> = Vec::with_capacity(16);
    for i in 0..4096 {
        bytes.push(i as u8);
    }
    std::mem::forget(black_box(bytes));
}

#[inline(never)]
#[no_mangle]
fn rust_libc() {
    black_box(unsafe { malloc(77) });
}

fn main() {
    rust_boxes();
    rust_vector();
    rust_libc();
}
