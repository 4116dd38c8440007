//! Record slots: where a call executes whose return a hook wants to hear of. Zone: call.
//!
//! A slot is a piece of code in the gate with a record at a constant distance, so the instruction pointer alone names
//! the record: while the call is in the kernel no register of the program is altered and nothing lies on a stack.
//! `clone` returns twice in one slot; its record is freed by whoever comes second.

use crate::abi::signal::SignalSet;
use crate::runtime::gate::claim::Claim;
use crate::runtime::gate::layout::{SLOT_LEN, SLOTS};
use crate::runtime::gate::pending::MaskPair;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Where in a record the address stands that the call returns to, for the unwind entry.
pub(crate) const BACK_OFFSET: usize = offset_of!(Record, back);

/// Where in a record the address stands at which a dedicated slot goes on.
pub(crate) const RESUME_OFFSET: usize = offset_of!(Record, resume);

/// What the code after a slot's `syscall` needs: a place to spill, and where to go.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Area {
    /// Spilled rax.
    pub rax: AtomicU64,
    /// Where the slot jumps; at this offset the slot's code reads it.
    pub landing: AtomicU64,
    /// Spilled flags: OF in the low byte, `lahf`'s in the high one.
    pub flags: AtomicU64,
    spare: u64,
}

const _: () = assert!(offset_of!(Area, landing) == 8, "the slot's code says jmp [rcx + 8]");

/// One pending call.
#[repr(C, align(256))]
#[derive(Debug)]
pub(crate) struct Record {
    /// The caller's area and, where the call returns twice, the child's.
    pub(super) areas: [Area; 2],
    /// The address after the program's system call instruction.
    pub(super) back: AtomicU64,
    pub(super) stub: AtomicU32,
    pub(super) nr: AtomicU32,
    /// The number as the program gave it.
    pub(super) original_nr: AtomicU32,
    /// 1 if the kernel is told of another mask than the program asks for.
    pub(super) has_masks: AtomicU32,
    /// The mask that the kernel is told of.
    pub(super) kernel_mask: AtomicU64,
    /// The mask that the program asks for.
    pub(super) asked_mask: AtomicU64,
    pub(super) args: [AtomicU64; 6],
    /// The argument registers as the program had them, where a tool has changed the call.
    pub(super) originals: [AtomicU64; 6],
    /// The tools that are to see the exit.
    pub(super) owed: AtomicU32,
    /// How often the slot is still to be returned in.
    pub(super) pending: AtomicU32,
    pub(super) returns_twice: AtomicU32,
    pub(super) flags: AtomicU64,
    /// 1 if the enter hook ran on a block that its thread owns, which is free while the call is pending.
    pub(super) runs_owned: AtomicU32,
    /// Where a dedicated slot goes on: the stub's way back.
    pub(super) resume: AtomicU64,
    pub(super) claim: Claim,
}

const _: () = assert!(size_of::<Record>() == SLOT_LEN);

impl Area {
    const fn new() -> Self {
        Self { rax: AtomicU64::new(0), landing: AtomicU64::new(0), flags: AtomicU64::new(0), spare: 0 }
    }
}

impl Record {
    const fn new() -> Self {
        Self {
            areas: [const { Area::new() }; 2],
            back: AtomicU64::new(0),
            stub: AtomicU32::new(0),
            nr: AtomicU32::new(0),
            original_nr: AtomicU32::new(0),
            has_masks: AtomicU32::new(0),
            kernel_mask: AtomicU64::new(0),
            asked_mask: AtomicU64::new(0),
            args: [const { AtomicU64::new(0) }; 6],
            originals: [const { AtomicU64::new(0) }; 6],
            owed: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            returns_twice: AtomicU32::new(0),
            flags: AtomicU64::new(0),
            runs_owned: AtomicU32::new(0),
            resume: AtomicU64::new(0),
            claim: Claim::new(),
        }
    }
}

impl Record {
    /// The masks, if there are two.
    pub(super) fn masks(&self) -> Option<MaskPair> {
        let [asked, kernel] =
            [&self.asked_mask, &self.kernel_mask].map(|mask| SignalSet(mask.load(Ordering::Relaxed)));
        (self.has_masks.load(Ordering::Relaxed) != 0).then_some(MaskPair { asked, kernel })
    }

    pub(super) fn set_masks(&self, masks: Option<MaskPair>) {
        self.has_masks.store(masks.is_some().into(), Ordering::Relaxed);
        if let Some(MaskPair { asked, kernel }) = masks {
            self.asked_mask.store(asked.0, Ordering::Relaxed);
            self.kernel_mask.store(kernel.0, Ordering::Relaxed);
        }
    }

    pub(super) const fn area(&self, childs: bool) -> &Area {
        let [callers, other] = &self.areas;
        if childs { other } else { callers }
    }
}

/// The records and who holds them.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Records {
    pub(super) records: [Record; SLOTS as usize],
    taken: [AtomicU64; SLOTS as usize / 64],
    /// Slots whose code has been written, from the first on.
    pub(super) ready: AtomicU32,
    /// Calls whose exit event was lost because every slot was taken.
    pub(super) missed: AtomicU64,
}

impl Records {
    /// A pool in which no slot has code yet.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            records: [const { Record::new() }; SLOTS as usize],
            taken: [const { AtomicU64::new(0) }; SLOTS as usize / 64],
            ready: AtomicU32::new(0),
            missed: AtomicU64::new(0),
        }
    }

    /// Takes a free slot below `limit` for `holder`, for as long as its call is pending and until it is
    /// [`Self::release`]d.
    pub(super) fn take(&self, limit: u32, holder: u64) -> Option<u32> {
        let ready = self.ready.load(Ordering::Acquire).min(limit);
        for (index, word) in (0_u32..).zip(&self.taken) {
            let first = index * 64;
            if first >= ready {
                break;
            }
            let usable = if ready - first >= 64 { u64::MAX } else { (1 << (ready - first)) - 1 };
            let mut taken = word.load(Ordering::Relaxed);
            while !taken & usable != 0 {
                let bit = (!taken & usable).trailing_zeros();
                taken = word.fetch_or(1 << bit, Ordering::Acquire);
                if taken & (1 << bit) == 0 {
                    self.record(first + bit)?.claim.stamp(holder);
                    return Some(first + bit);
                }
            }
        }
        None
    }

    pub(super) fn release(&self, slot: u32) {
        if let Some((word, record)) = self.taken.get(slot as usize / 64).zip(self.record(slot)) {
            record.claim.clear();
            word.fetch_and(!(1 << (slot % 64)), Ordering::Release);
        }
    }

    /// The slots that are taken now, with their records.
    pub(super) fn taken(&self) -> impl Iterator<Item = (u32, &Record)> {
        (0_u32..).step_by(64).zip(&self.taken).zip(self.records.chunks(64)).flat_map(
            |((first, word), records)| {
                let taken = word.load(Ordering::Relaxed);
                (0_u32..)
                    .zip(records)
                    .filter(move |(bit, _)| taken & (1 << bit) != 0)
                    .map(move |(bit, record)| (first + bit, record))
            },
        )
    }

    pub(super) fn record(&self, slot: u32) -> Option<&Record> {
        self.records.get(slot as usize)
    }
}

/// The pool of this process. A fork frees all slots but those of the thread that forked.
pub(super) static RECORDS: Records = Records::new();

impl Default for Records {
    fn default() -> Self {
        Self::new()
    }
}

impl Area {
    pub(super) fn address(&self) -> u64 {
        core::ptr::from_ref(self).expose_provenance() as u64
    }
}

/// The address of the first record.
#[must_use]
pub(crate) fn first_record() -> u64 {
    (&raw const RECORDS.records).addr() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::gate::slots::ORDINARY;

    fn pool_with(ready: u32) -> std::boxed::Box<Records> {
        let pool = std::boxed::Box::new(Records::new());
        pool.ready.store(ready, Ordering::Relaxed);
        pool
    }

    #[test]
    fn hands_out_each_ready_slot_once() {
        let pool = pool_with(80);
        let mut slots: std::vec::Vec<u32> = (0..80).map(|_| pool.take(SLOTS, 0).unwrap()).collect();
        assert_eq!(pool.take(SLOTS, 0), None);
        slots.sort_unstable();
        assert_eq!(slots, (0..80).collect::<std::vec::Vec<u32>>());
    }

    #[test]
    fn a_released_slot_is_free_again() {
        let pool = pool_with(16);
        while pool.take(SLOTS, 0).is_some() {}
        pool.release(11);
        assert_eq!(pool.take(SLOTS, 0), Some(11));
        assert_eq!(pool.take(SLOTS, 0), None);
    }

    #[test]
    fn the_last_slots_are_the_loaders() {
        let pool = pool_with(SLOTS);
        let ordinary = core::iter::from_fn(|| pool.take(ORDINARY, 0)).count();
        assert_eq!(ordinary, ORDINARY as usize);
        assert_eq!(pool.take(SLOTS, 0), Some(ORDINARY));
    }
}
