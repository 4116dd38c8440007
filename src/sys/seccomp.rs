//! The program's own seccomp filters, asked before the loader makes a call of its own. Zone: call.
//!
//! A filter that ends the process at a call that the program itself would never make must not end it for a call of
//! the loader's. So what the program installs is remembered here, and a call that is not simply let through is not
//! made: it fails with EPERM, and the loader does without it. Filters belong to threads; they are taken to
//! be everybody's. Those from before the loader's start are not known.

use super::gate_asm;
use crate::abi::bpf::{self, Instruction};
use crate::abi::call::Call;
use crate::abi::sysno;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Instructions of all filters together that are remembered; beyond, nothing is let through.
const CAPACITY: usize = 4 * bpf::LEN_MAX;
const FILTERS: usize = 32;

/// What has been installed.
#[derive(Debug)]
struct Filters {
    /// How many reasons there are to let nothing through: calls that are installing a filter, filters that are not known.
    closed: AtomicU32,
    /// 1 in strict mode: `read`, `write`, `exit` and `rt_sigreturn` only.
    strict: AtomicU32,
    count: AtomicU32,
    /// Whether the filter that is being installed is known.
    is_staged: AtomicBool,
    /// Where each filter ends in `instructions`.
    ends: [AtomicU32; FILTERS],
    instructions: [AtomicU64; CAPACITY],
}

static INSTALLED: Filters = Filters {
    closed: AtomicU32::new(0),
    strict: AtomicU32::new(0),
    count: AtomicU32::new(0),
    is_staged: AtomicBool::new(false),
    ends: [const { AtomicU32::new(0) }; FILTERS],
    instructions: [const { AtomicU64::new(0) }; CAPACITY],
};

/// A filter as it is remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filter(&'static [AtomicU64]);

impl Filter {
    /// Its instruction at `index`.
    #[must_use]
    pub(crate) fn instruction(self, index: usize) -> Option<Instruction> {
        self.0.get(index).map(|word| Instruction(word.load(Ordering::Relaxed)))
    }
}

/// Whether a call of the loader's own may be made; and whether one of the program's is sure to be.
#[must_use]
pub(crate) fn allows(nr: u32, args: [u64; 6]) -> bool {
    let any = INSTALLED.closed.load(Ordering::Relaxed)
        | INSTALLED.strict.load(Ordering::Relaxed)
        | INSTALLED.count.load(Ordering::Relaxed);
    any == 0 || ask(&Call { nr, args })
}

#[cold]
fn ask(call: &Call) -> bool {
    const STRICT: [u32; 4] = [sysno::READ, sysno::WRITE, sysno::EXIT, sysno::RT_SIGRETURN];
    if INSTALLED.closed.load(Ordering::Acquire) != 0
        || INSTALLED.strict.load(Ordering::Relaxed) != 0 && !STRICT.contains(&call.nr)
    {
        return false;
    }
    let count = INSTALLED.count.load(Ordering::Acquire) as usize;
    (0..count).all(|index| {
        let filter = filter(index);
        bpf::allows(|at| filter.instruction(at), call, gate_asm::address_after())
    })
}

/// The filter that was installed as number `index`; empty if there is none.
fn filter(index: usize) -> Filter {
    let end = |index: usize| INSTALLED.ends.get(index).map_or(0, |end| end.load(Ordering::Relaxed) as usize);
    Filter(INSTALLED.instructions.get(start_of(index)..end(index)).unwrap_or_default())
}

/// Where the instructions of filter `index` start.
fn start_of(index: usize) -> usize {
    index.checked_sub(1).map_or(0, |last| {
        INSTALLED.ends.get(last).map_or(CAPACITY, |end| end.load(Ordering::Relaxed) as usize)
    })
}

/// The program is about to restrict itself: remembers a filter of `len` instructions, which is not in force yet. `None`
/// if there is no room for it.
///
/// `read` gets instructions from an index on; it may fail.
pub(crate) fn stage(len: usize, read: impl FnMut(usize, &mut [u64]) -> Option<()>) -> Option<Filter> {
    let filter = copy(len, read);
    INSTALLED.is_staged.store(filter.is_some(), Ordering::Relaxed);
    filter
}

fn copy(len: usize, mut read: impl FnMut(usize, &mut [u64]) -> Option<()>) -> Option<Filter> {
    let index = INSTALLED.count.load(Ordering::Acquire) as usize;
    let start = start_of(index);
    let room = INSTALLED.instructions.get(start..start.checked_add(len)?)?;
    let mut chunk = [0_u64; 64];
    for (number, words) in room.chunks(chunk.len()).enumerate() {
        let into = chunk.get_mut(..words.len())?;
        read(number * 64, into)?;
        words.iter().zip(into).for_each(|(to, from)| to.store(*from, Ordering::Relaxed));
    }
    INSTALLED.ends.get(index)?.store((start + len) as u32, Ordering::Relaxed);
    Some(Filter(room))
}

/// Lets nothing through until [`open`]: with the flag to synchronise threads a filter may be in force before the thread
/// that installs it is back. Two at the same time can't be told apart, and it stays closed for ever.
pub(crate) fn close() {
    if INSTALLED.closed.fetch_add(1, Ordering::AcqRel) != 0 {
        INSTALLED.closed.fetch_add(1, Ordering::AcqRel);
    }
}

/// Takes one [`close`] back.
pub(crate) fn open() {
    INSTALLED.closed.fetch_sub(1, Ordering::AcqRel);
}

/// Strict mode is on.
pub(crate) fn add_strict() {
    INSTALLED.strict.store(1, Ordering::Release);
}

/// What was [`stage`]d last is in force; if it is not known, nothing is let through any more.
pub(crate) fn add_staged() {
    if INSTALLED.is_staged.swap(false, Ordering::Relaxed) {
        INSTALLED.count.fetch_add(1, Ordering::AcqRel);
    } else {
        close();
    }
}
