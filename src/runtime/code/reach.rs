//! Where trampolines may lie. Zone: load, and call with the patcher's lock held.

use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr, PAGE, page_ceil};
use crate::find::site::Text;
use crate::runtime::gate::pool;
use crate::sys::mem::{self, Place};
use core::sync::atomic::{AtomicU64, Ordering};

unsafe extern "C" {
    // The linker defines both (ld, "Source Code Reference"; PROVIDE in its default script).
    static __ehdr_start: u8;
    static _end: u8;
}

/// The loader's own image.
fn image() -> AddrRange {
    let [start, end] = [&raw const __ehdr_start, &raw const _end].map(|at| GuestAddr(at.addr() as u64));
    AddrRange::new(start, end.wrapping_add(PAGE - 1).page_floor())
}

/// The end of the program's stack; 0 before it is known. A fork keeps it.
static STACK_TOP: AtomicU64 = AtomicU64::new(0);

/// Says where the program's stack ends.
pub(crate) fn set_stack_top(at: u64) {
    STACK_TOP.store(at, Ordering::Relaxed);
}

/// Address space for trampolines that must lie at certain addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach(pub [AddrRange; 3]);

impl Reach {
    /// How far a mapping may grow before it meets a trampoline: new mappings go below old ones.
    const CLEARANCE: u64 = 256 << 20;
    /// How far a module's other segments are likely to reach behind its text.
    const MODULE: u64 = 16 << 20;
    /// What is kept free below the loader's view of the stack, for the stack to grow.
    const STACK: u64 = 64 << 20;
    /// Just short of what a `rel32` spans.
    const REACH: u64 = (1 << 31) - (1 << 20);

    /// Around a text that lies among the mappings that the kernel places.
    #[must_use]
    pub(crate) fn around(text: AddrRange) -> Self {
        let stack = GuestAddr(STACK_TOP.load(Ordering::Relaxed));
        let highest = text.start.wrapping_add(Self::REACH);
        let top = if stack > text.start { highest.min(stack.wrapping_sub(Self::STACK)) } else { highest };
        let below = GuestAddr(text.end.0.saturating_sub(Self::REACH).max(Self::CLEARANCE));
        // The module's own data come first.
        let above = AddrRange::new(text.end.page_floor().wrapping_add(Self::MODULE), top.page_floor());
        let own = own_mappings();
        Self([
            AddrRange::new(above.start, above.end.min(own.start)),
            AddrRange::new(above.start.max(own.end), above.end),
            AddrRange::new(below.page_floor(), text.start.wrapping_sub(Self::CLEARANCE).page_floor()),
        ])
    }

    /// Behind a program, where nothing lies but its break, which is put behind the trampolines.
    #[must_use]
    pub(crate) fn behind(span: AddrRange) -> Self {
        const REACH: u64 = (1 << 30) - (1 << 20);
        let nothing = AddrRange::new(span.start, span.start);
        Self([AddrRange::new(span.end, span.end.wrapping_add(REACH)), nothing, nothing])
    }
}

/// What the kernel has put next to each other: the blocks, the loader's image, and above it the heap and the vDSO. Puns
/// would point there often, since what follows a system call is the same few instructions everywhere, and each costs
/// another plan.
fn own_mappings() -> AddrRange {
    const ABOVE: u64 = 8 << 20;
    let blocks = pool::mapping();
    let image = image();
    AddrRange::new(blocks.start.min(image.start), blocks.end.max(image.end).wrapping_add(ABOVE))
}

/// Maps `len` bytes within reach of all of `text`: below it, where no break grows, else above.
pub(crate) fn reserve_near(text: &Text<'_>, len: u64, rights: Protection) -> Option<AddrRange> {
    const STEP: u64 = 1 << 16;
    const TRIES: u64 = 256;
    if len == 0 {
        return None;
    }
    let len = page_ceil(len)?;
    let end = text.addr(text.bytes.len()).0.checked_next_multiple_of(PAGE)?;
    let below = (1..=TRIES).filter_map(|step| text.at.0.checked_sub(len + step * STEP));
    let above = (1..=TRIES).filter_map(|step| end.checked_add(step * STEP));
    below.chain(above).find_map(|at| {
        let at = mem::map_anonymous(Place::Free(GuestAddr(at)), len, rights).ok()?;
        let area = AddrRange::new(at, at.wrapping_add(len));
        mem::name(area, c"loader:trampolines");
        Some(area)
    })
}
