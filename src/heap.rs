//! The bump allocator. Zone: load.
//!
//! Memory comes from the kernel in chunks and only grows; single blocks are never given back (except that the newest
//! may grow and shrink in place). Two moments allocate: loading, and patching at run time, both under one lock. What a
//! patch needs only while it is made is allocated after a [`mark`] and dropped as a whole by [`reset`].

use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr, page_ceil};
use crate::sys::lock::Lock;
use crate::sys::mem::{self, Place};
use core::alloc::{GlobalAlloc, Layout};

/// Bytes asked of the kernel at a time; untouched pages of a chunk cost nothing but address space.
const CHUNK: u64 = 1 << 20;

/// The `#[global_allocator]` of the executable; its state is [`ARENA`].
#[derive(Debug)]
pub struct Bump;

#[derive(Clone, Copy)]
struct Arena {
    /// The first free byte.
    next: u64,
    /// The current chunk; empty before the first.
    chunk: Chunk,
    /// Blocks given back, by the logarithm of their length: the newest of each kind, whose first word leads to the next.
    free: [u64; CLASSES],
    /// The last [`mark`] that has not been reset to.
    marked: Option<Mark>,
}

impl Arena {
    const EMPTY: Self = Self { next: 0, chunk: Chunk { start: 0, end: 0 }, free: [0; CLASSES], marked: None };
}

/// Kinds of given-back blocks: below 2^24 bytes.
const CLASSES: usize = 24;
/// Shorter blocks are not worth a second look.
const REUSED_MIN: usize = 64;

/// One mapping that blocks are cut from. Its first bytes say which chunk was current before it.
#[derive(Clone, Copy)]
struct Chunk {
    start: u64,
    end: u64,
}

/// Bytes at the start of a chunk that hold the [`Chunk`] before it.
const HEADER: u64 = size_of::<Chunk>() as u64;

static ARENA: Lock<Arena> = Lock::new(Arena::EMPTY);

/// A moment of the arena, to [`reset`] to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    next: u64,
    chunk_start: u64,
    free: [u64; CLASSES],
}

/// Notes what is allocated now.
#[must_use]
pub(crate) fn mark() -> Mark {
    let mut arena = ARENA.lock();
    // What is free now stays so until `reset`, and what is given back until then goes with the rest.
    let free = core::mem::replace(&mut arena.free, [0; CLASSES]);
    let mark = Mark { next: arena.next, chunk_start: arena.chunk.start, free };
    arena.marked = Some(mark);
    mark
}

/// Drops everything allocated since `mark` and gives its pages back.
///
/// # Safety
///
/// Nothing allocated since `mark` is used any more.
pub(crate) unsafe fn reset(mark: Mark) {
    let mut arena = ARENA.lock();
    arena.marked = None;
    while arena.chunk.start != mark.chunk_start {
        let Chunk { start, end } = arena.chunk;
        // SAFETY: `Arena::add_chunk` wrote it there, and blocks lie behind it.
        arena.chunk = unsafe { *core::ptr::with_exposed_provenance::<Chunk>(start as usize) };
        arena.next = arena.chunk.end;
        mem::unmap(AddrRange::new(GuestAddr(start), GuestAddr(end)));
    }
    if let Some(first) = page_ceil(mark.next) {
        let last = page_ceil(arena.next).unwrap_or(arena.chunk.end).min(arena.chunk.end);
        mem::discard(AddrRange::new(GuestAddr(first), GuestAddr(last)));
    }
    arena.next = mark.next;
    arena.free = mark.free;
}

/// Drops what a patch has allocated that will never be finished. If that was in the middle of an allocation, what there
/// is stays as it is, and new memory is used.
///
/// # Safety
///
/// Whoever was patching will never run again.
pub(crate) unsafe fn abandon_patch() {
    if ARENA.is_locked() {
        // SAFETY: as the caller vouches.
        unsafe { ARENA.force_unlock() };
        *ARENA.lock() = Arena::EMPTY;
    }
    let marked = ARENA.lock().marked;
    if let Some(mark) = marked {
        // SAFETY: nothing outlives the patch, and that is over.
        unsafe { reset(mark) };
    }
}

impl Arena {
    /// Room for `layout`, or 0.
    fn take(&mut self, layout: Layout) -> u64 {
        let align = layout.align() as u64;
        let len = layout.size() as u64;
        if let Some(block) = self.take_free(layout) {
            return block;
        }
        let fit = |next: u64, end: u64| {
            let start = next.checked_add(align - 1)? & !(align - 1);
            let stop = start.checked_add(len)?;
            (stop <= end).then_some((start, stop))
        };
        let fits = fit(self.next, self.chunk.end).or_else(|| {
            self.add_chunk(len.checked_add(align)?)?;
            fit(self.next, self.chunk.end)
        });
        let Some((start, stop)) = fits else { return 0 };
        self.next = stop;
        start
    }

    /// A block that was given back and is long enough.
    fn take_free(&mut self, layout: Layout) -> Option<u64> {
        if layout.size() < REUSED_MIN {
            return None;
        }
        let first = self.free.get_mut(layout.size().checked_next_power_of_two()?.ilog2() as usize)?;
        let block = *first;
        if block == 0 || !block.is_multiple_of(layout.align() as u64) {
            return None;
        }
        // SAFETY: `give_back` wrote it there, and nobody has used the block since.
        *first = unsafe { *core::ptr::with_exposed_provenance::<u64>(block as usize) };
        Some(block)
    }

    /// Keeps a block for [`Self::take_free`].
    fn give_back(&mut self, block: *mut u8, layout: Layout) {
        let class = layout.size().max(1).ilog2() as usize;
        if layout.size() >= REUSED_MIN
            && layout.align() >= align_of::<u64>()
            && let Some(first) = self.free.get_mut(class)
        {
            // SAFETY: the block is free, long enough, and aligned as was just seen.
            unsafe { *block.cast::<u64>() = *first };
            *first = block.expose_provenance() as u64;
        }
    }

    /// Makes a new chunk with at least `len` free bytes the current one.
    fn add_chunk(&mut self, len: u64) -> Option<()> {
        let len = len.checked_add(HEADER).and_then(page_ceil)?.max(CHUNK);
        let at = mem::map_anonymous(Place::Anywhere, len, Protection::READ_WRITE).ok()?;
        mem::name(AddrRange::new(at, at.wrapping_add(len)), c"loader:heap");
        // SAFETY: the mapping is new and longer than the header.
        unsafe { *core::ptr::with_exposed_provenance_mut::<Chunk>(at.0 as usize) = self.chunk };
        self.chunk = Chunk { start: at.0, end: at.0.wrapping_add(len) };
        self.next = at.0.wrapping_add(HEADER);
        Some(())
    }
}

// SAFETY: `take` returns disjoint ranges of mapped memory, aligned and as long as asked; nothing is handed out twice
// before `reset`, whose caller vouches that the first holder is gone.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(ARENA.lock().take(layout) as usize)
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let mut arena = ARENA.lock();
        if at.addr() as u64 + layout.size() as u64 == arena.next {
            arena.next = at.addr() as u64;
        } else {
            arena.give_back(at, layout);
        }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        let start = at.expose_provenance() as u64;
        {
            let mut arena = ARENA.lock();
            let newest = start + layout.size() as u64 == arena.next;
            if let Some(stop) = start.checked_add(len as u64)
                && newest
                && stop <= arena.chunk.end
            {
                arena.next = stop;
                return at;
            }
        }
        if len <= layout.size() {
            return at;
        }
        let Ok(grown) = Layout::from_size_align(len, layout.align()) else {
            return core::ptr::null_mut();
        };
        // SAFETY: `grown` has the alignment of `layout` and is not empty, being larger.
        let to = unsafe { self.alloc(grown) };
        if !to.is_null() {
            // SAFETY: both hold at least the old length, and the new block lies apart from the old one.
            unsafe { core::ptr::copy_nonoverlapping(at, to, layout.size()) };
            ARENA.lock().give_back(at, layout);
        }
        to
    }
}
