//! The program's own seccomp filters, asked before the loader makes a call of its own. Zone: call.
//!
//! A filter that ends the process at a call that the program itself would never make must not end it for a call of
//! the loader's. So what the program installs is remembered here, and a call that is not simply let through is not
//! made: it fails with EPERM, and the loader does without it. Filters belong to threads; they are taken to
//! be everybody's. Those from before the loader's start are not known.

use crate::abi::bpf::{self, Instruction};
use crate::abi::call::Call;
use crate::abi::sysno;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

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
    /// Where each filter ends in `instructions`.
    ends: [AtomicU32; FILTERS],
    instructions: [AtomicU64; CAPACITY],
}

static INSTALLED: Filters = Filters {
    closed: AtomicU32::new(0),
    strict: AtomicU32::new(0),
    count: AtomicU32::new(0),
    ends: [const { AtomicU32::new(0) }; FILTERS],
    instructions: [const { AtomicU64::new(0) }; CAPACITY],
};

/// Whether a call of the loader's own may be made.
#[must_use]
pub fn allow(nr: u32, args: [u64; 6]) -> bool {
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
    let mut start = 0;
    INSTALLED.ends.iter().take(INSTALLED.count.load(Ordering::Acquire) as usize).all(|end| {
        let end = end.load(Ordering::Relaxed) as usize;
        let filter = INSTALLED.instructions.get(start..end).unwrap_or_default();
        start = end;
        let instruction = |at: usize| Some(Instruction(filter.get(at)?.load(Ordering::Relaxed)));
        // Where the call comes from is left open: a filter that looks at it is `closed`.
        bpf::allows(instruction, call, 0)
    })
}

/// Lets nothing through until [`open`]: a filter is being installed, or one is not known.
pub fn close() {
    INSTALLED.closed.fetch_add(1, Ordering::AcqRel);
}

/// Takes one [`close`] back.
pub fn open() {
    INSTALLED.closed.fetch_sub(1, Ordering::AcqRel);
}

/// Remembers that strict mode is on.
pub fn add_strict() {
    INSTALLED.strict.store(1, Ordering::Release);
}

/// Remembers a filter. Returns false if there is no room, or if it looks at the address of the call: then it must stay
/// closed.
#[must_use]
pub fn add(filter: impl ExactSizeIterator<Item = Instruction>) -> bool {
    let count = INSTALLED.count.load(Ordering::Acquire) as usize;
    let start = match count.checked_sub(1) {
        None => 0,
        Some(last) => INSTALLED.ends.get(last).map_or(CAPACITY, |end| end.load(Ordering::Relaxed) as usize),
    };
    let end = start.saturating_add(filter.len());
    let (Some(room), Some(last)) = (INSTALLED.instructions.get(start..end), INSTALLED.ends.get(count)) else {
        return false;
    };
    let mut reads_pointer = false;
    for (to, instruction) in room.iter().zip(filter) {
        reads_pointer |= instruction.reads_pointer();
        to.store(instruction.0, Ordering::Relaxed);
    }
    last.store(end as u32, Ordering::Relaxed);
    INSTALLED.count.store(count as u32 + 1, Ordering::Release);
    !reads_pointer
}
