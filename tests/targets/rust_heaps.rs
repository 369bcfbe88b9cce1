//! A Rust program whose global allocator takes pages of its own and reports; "vectors N" on stdin, answered by blocks
//! and bytes ever allocated and in use.

#[path = "../../examples/allocators/reported_alloc.rs"]
mod reported_alloc;

use reported_alloc::{Reported, EXACT, OWN_PAGES};
use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

extern "C" {
    fn mmap(at: *mut u8, bytes: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> *mut u8;
    fn read(fd: i32, to: *mut u8, bytes: usize) -> isize;
    fn write(fd: i32, from: *const u8, bytes: usize) -> isize;
}

struct Bump;
static END: AtomicUsize = AtomicUsize::new(0);
static TRUTH: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];
const ROOM: usize = 64 << 20;

unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if END.load(SeqCst) == 0 {
            let pages = mmap(std::ptr::null_mut(), ROOM, 3, 0x22, -1, 0) as usize;
            let _ = END.compare_exchange(0, pages, SeqCst, SeqCst);
        }
        let begin = END.fetch_add((layout.size() + layout.align() + 31) & !15, SeqCst);
        for (k, by) in [1, layout.size(), 1, layout.size()].iter().enumerate() {
            TRUTH[k].fetch_add(*by, SeqCst);
        }
        ((begin + layout.align() - 1) & !(layout.align() - 1)) as *mut u8
    }

    unsafe fn dealloc(&self, _: *mut u8, layout: Layout) {
        TRUTH[2].fetch_sub(1, SeqCst);
        TRUTH[3].fetch_sub(layout.size(), SeqCst);
    }
}

#[global_allocator]
static GLOBAL: Reported<Bump> = Reported::new(Bump, b"rust", EXACT | OWN_PAGES);

#[inline(never)]
fn collect(kept: &mut Vec<Vec<u64>>, n: usize) {
    for i in 0..n {
        let made = vec![i as u64; 1 + i % 40];
        if i % 3 == 0 {
            kept.push(made);
        }
    }
}

/// Answers without an allocation.
fn answer() {
    let mut line = [b' '; 100];
    let mut at = 0;
    for truth in &TRUTH {
        let (mut digits, mut n, mut value) = ([0u8; 20], 0, truth.load(SeqCst));
        loop {
            digits[n] = b'0' + (value % 10) as u8;
            n += 1;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        for k in (0..n).rev() {
            line[at] = digits[k];
            at += 1;
        }
        at += 1;
    }
    line[at - 1] = b'\n';
    unsafe { write(1, line.as_ptr(), at) };
}

fn main() {
    let mut kept = Vec::new();
    let mut line = [0u8; 64];
    loop {
        answer();
        let got = unsafe { read(0, line.as_mut_ptr(), line.len()) };
        if got <= 0 {
            break;
        }
        let mut n = 0;
        for byte in line[..got as usize].iter().filter(|b| b.is_ascii_digit()) {
            n = 10 * n + (byte - b'0') as usize;
        }
        collect(&mut kept, n);
    }
}
