//! The bytes that this process has in use: the system's allocator, counting.

#![allow(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes in use, as glibc's allocator hands them out: a header of 8 bytes, in steps of 16, 32 at least.
pub(crate) fn in_use() -> usize {
    IN_USE.load(Relaxed)
}

fn cost(layout: Layout) -> usize {
    (layout.size() + 8).next_multiple_of(16).max(32)
}

// SAFETY: every call is handed to the system's allocator as it came; counting touches no memory of the caller
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(cost(layout), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(cost(layout), Relaxed);
        // SAFETY: `block` came from `alloc` above, thus from the system's allocator, with this layout
        unsafe { System.dealloc(block, layout) }
    }
}
