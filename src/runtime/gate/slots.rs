//! Taking, preparing and giving back record slots. Zone: call.

use crate::abi::call::Call;
use crate::addr::{AddrRange, GuestAddr};
use crate::hook::chain::Owed;
use crate::runtime::gate::block::Block;
use crate::runtime::gate::claim::Lost;
use crate::runtime::gate::layout::{SLOT_LEN, SLOTS};
use crate::runtime::gate::pending::{Collected, Pending, Returns, Side};
use crate::runtime::gate::record::{self, RECORDS, Record};
use crate::runtime::gate::{enter_asm, gate_asm, pages, slot_code};
use crate::runtime::memory::code_writer;
use crate::sys::signal::AllBlocked;
use core::sync::atomic::Ordering;

/// Of these, how many calls can have that only tools wait for. The loader itself can't do without the others.
pub(crate) const ORDINARY: u32 = SLOTS - 64;

/// Slots whose code fills one page.
const SLOTS_A_PAGE: u32 = 4096 / SLOT_LEN as u32;

/// Takes a slot of a page that is written now.
fn grow_and_take(limit: u32, holder: u64) -> Option<u32> {
    if RECORDS.ready.load(Ordering::Relaxed) >= SLOTS {
        return None;
    }
    let _blocked = AllBlocked::new()?;
    let _pages = pages::lock();
    // Somebody else may have grown the pool while this thread waited for the lock.
    RECORDS.take(limit, holder).or_else(|| {
        grow();
        RECORDS.take(limit, holder)
    })
}

/// Writes some pages of slots at once, before a filter of the program's makes that impossible.
pub(crate) fn make_ready() {
    const ENOUGH: u32 = 256;
    let Some(_blocked) = AllBlocked::new() else { return };
    let _pages = pages::lock();
    for _ in RECORDS.ready.load(Ordering::Relaxed) / SLOTS_A_PAGE..ENOUGH / SLOTS_A_PAGE {
        grow();
    }
}

/// Writes the code of the next page of slots, if the pool has one left. Needs the lock of the gate's pages once there are threads.
pub(crate) fn grow() {
    let records = &RECORDS;
    let first = records.ready.load(Ordering::Acquire);
    if first >= SLOTS {
        return;
    }
    let mut page = [0xcc_u8; 4096];
    for index in 0..SLOTS_A_PAGE {
        let slot = first + index;
        let at = code_of(slot);
        let Some(record) = records.record(slot) else { return };
        let code = slot_code::build(at, core::ptr::from_ref(record).expose_provenance() as u64);
        let start = index as usize * SLOT_LEN;
        if let (Some(to), Some(code)) = (page.get_mut(start..start + slot_code::LEN), code) {
            to.copy_from_slice(&code);
        }
    }
    let start = code_of(first);
    if code_writer::write_fresh(AddrRange::new(start, start.wrapping_add(4096)), &page).is_ok() {
        records.ready.store(first + SLOTS_A_PAGE, Ordering::Release);
    }
}

/// A slot in which a call waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prepared {
    /// The address to jump to.
    pub code: GuestAddr,
    /// Where the mask stands that the kernel is told of, if the call has one.
    pub mask_at: Option<u64>,
}

/// Makes `pending` wait in a slot, the block's spare one if there is one; `None` if all slots that such a call can have,
/// those below `limit`, are taken.
pub(crate) fn prepare(pending: &Pending, back: GuestAddr, block: &Block, limit: u32) -> Option<Prepared> {
    let holder = block.holder();
    let slot = match block.spare.slot() {
        Some(slot) => {
            RECORDS.record(slot)?.claim.stamp(holder); // while it is still to be found in the block
            block.spare.set(None);
            slot
        }
        None => RECORDS.take(limit, holder).or_else(|| grow_and_take(limit, holder))?,
    };
    let record = RECORDS.record(slot)?;
    let (landing, flags) = match pending.returns {
        Returns::Once => (enter_asm::returned as *const () as u64, 0),
        Returns::Twice { flags } => (enter_asm::returned_split as *const () as u64, flags),
    };
    record.returns_twice.store((pending.returns != Returns::Once).into(), Ordering::Relaxed);
    record.flags.store(flags, Ordering::Relaxed);
    record.areas[0].landing.store(landing, Ordering::Relaxed);
    record.back.store(back.0, Ordering::Relaxed);
    record.stub.store(pending.stub, Ordering::Relaxed);
    record.nr.store(pending.call.nr, Ordering::Relaxed);
    record.original_nr.store(pending.original_nr, Ordering::Relaxed);
    for (to, from) in record.args.iter().zip(pending.call.args) {
        to.store(from, Ordering::Relaxed);
    }
    for (to, from) in record.originals.iter().zip(pending.originals) {
        to.store(from, Ordering::Relaxed);
    }
    record.set_masks(pending.masks);
    record.owed.store(pending.owed.0, Ordering::Relaxed);
    record.runs_owned.store(block.is_owned().into(), Ordering::Relaxed);
    record.pending.store(1 + u32::from(pending.returns.share_memory()), Ordering::Relaxed);
    let mask_at = pending.masks.map(|_| record.kernel_mask.as_ptr().expose_provenance() as u64);
    Some(Prepared { code: code_of(slot), mask_at })
}

/// Reads what waited behind `area` and gives the slot back (to an owned block as a spare one) once nobody else is to
/// return in it. `failed` says that the call made no child.
pub(crate) fn collect(block: &Block, area: u64, failed: bool) -> Option<Collected> {
    let slot = slot_of(area)?;
    // Records are aligned to their length.
    let side = if is_childs(area) { Side::Child } else { Side::Caller };
    let record = RECORDS.record(slot)?;
    let mut call = Call { nr: record.nr.load(Ordering::Relaxed), args: [0; 6] };
    for (to, from) in call.args.iter_mut().zip(&record.args) {
        *to = from.load(Ordering::Relaxed);
    }
    let mut originals = [0; 6];
    for (to, from) in originals.iter_mut().zip(&record.originals) {
        *to = from.load(Ordering::Relaxed);
    }
    let pending = Pending {
        call,
        original_nr: record.original_nr.load(Ordering::Relaxed),
        masks: record.masks(),
        originals,
        stub: record.stub.load(Ordering::Relaxed),
        owed: Owed(record.owed.load(Ordering::Relaxed)),
        returns: match record.returns_twice.load(Ordering::Relaxed) {
            0 => Returns::Once,
            _ => Returns::Twice { flags: record.flags.load(Ordering::Relaxed) },
        },
    };
    let vforks = record.claim.vforks();
    let ran_owned = record.runs_owned.load(Ordering::Relaxed) != 0;
    let last = match record.pending.load(Ordering::Acquire) {
        0 | 1 => true,
        _ if failed => true,
        // A vfork child that is gone and has not returned here was killed before it could.
        _ if side == Side::Caller && pending.returns.wait_for_child() => true,
        _ => record.pending.fetch_sub(1, Ordering::AcqRel) == 1,
    };
    if last {
        record.pending.store(0, Ordering::Relaxed);
        if block.is_owned() && block.spare.slot().is_none() {
            block.spare.set(Some(slot));
        } else {
            RECORDS.release(slot);
        }
    }
    Some(Collected { pending, side, vforks, ran_owned })
}

/// What a slot is dedicated to: any number of threads may be in such a slot at once, for nothing in its record changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dedication {
    /// The stub that its calls come through.
    pub stub: u32,
    /// Their number.
    pub nr: u32,
    /// Where the slot jumps when the call has returned, with rcx the record.
    pub landing: u64,
    /// The address after the site.
    pub back: GuestAddr,
    /// The stub's way back.
    pub resume: GuestAddr,
}

/// Takes a slot for good; returns its code, or `None` if all slots are taken.
pub(crate) fn dedicate(to: &Dedication) -> Option<GuestAddr> {
    let slot = RECORDS.take(SLOTS, 0).or_else(|| grow_and_take(SLOTS, 0))?;
    let record = RECORDS.record(slot)?;
    record.areas[0].landing.store(to.landing, Ordering::Relaxed);
    record.back.store(to.back.0, Ordering::Relaxed);
    record.stub.store(to.stub, Ordering::Relaxed);
    record.nr.store(to.nr, Ordering::Relaxed);
    record.resume.store(to.resume.0, Ordering::Relaxed);
    Some(code_of(slot))
}

/// A slot that a thread is in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot(u32);

impl Slot {
    /// The slot with this number.
    #[must_use]
    pub(crate) const fn at(number: u32) -> Self {
        Self(number)
    }

    /// The slot of the record that `area` lies in.
    #[must_use]
    pub(crate) fn of_area(area: u64) -> Self {
        Self(slot_of(area).unwrap_or(SLOTS))
    }

    fn record(self) -> Option<&'static Record> {
        RECORDS.record(self.0)
    }

    /// The address of the caller's area, or the child's.
    #[must_use]
    pub(crate) fn area(self, childs: bool) -> u64 {
        self.record().map_or(0, |record| record.area(childs).address())
    }

    /// Whether its call returns twice.
    #[must_use]
    pub(crate) fn returns_twice(self) -> bool {
        self.record().is_some_and(|record| record.returns_twice.load(Ordering::Relaxed) != 0)
    }

    /// The stub and the number that it is dedicated to, if it is.
    #[must_use]
    pub(crate) fn dedication(self) -> Option<(u32, u32)> {
        let record = self.record().filter(|record| record.resume.load(Ordering::Relaxed) != 0)?;
        Some((record.stub.load(Ordering::Relaxed), record.nr.load(Ordering::Relaxed)))
    }
}

/// The slot whose code `at` lies in, and how far into it.
#[must_use]
pub(crate) fn slot_around(at: GuestAddr) -> Option<(Slot, usize)> {
    let offset = at.0.checked_sub(gate_asm::slots())? as usize;
    (offset < SLOTS as usize * SLOT_LEN).then_some((Slot((offset / SLOT_LEN) as u32), offset % SLOT_LEN))
}

/// The result and the flags that were spilled to `area`.
#[must_use]
pub(crate) fn spilled(area: u64) -> (u64, u64) {
    let slot = Slot::of_area(area);
    slot.record().map_or((0, 0), |record| {
        let area = record.area(is_childs(area));
        (area.rax.load(Ordering::Relaxed), area.flags.load(Ordering::Relaxed))
    })
}

/// Whether an area is a child's. Records are aligned to their length.
#[must_use]
pub(crate) const fn is_childs(area: u64) -> bool {
    !area.is_multiple_of(SLOT_LEN as u64)
}

/// The calls of a dedicated slot return to `back` from now on.
pub(crate) fn set_back(code: GuestAddr, back: GuestAddr) {
    if let Some(record) = slot_around(code).and_then(|(slot, _)| slot.record()) {
        record.back.store(back.0, Ordering::Relaxed);
    }
}

/// Gives back a dedicated slot that no call has been made in.
pub(crate) fn release_dedicated(code: GuestAddr) {
    if let Some((slot, _)) = slot_around(code)
        && let Some(record) = slot.record()
    {
        record.resume.store(0, Ordering::Relaxed);
        RECORDS.release(slot.0);
    }
}

/// The code of a slot.
fn code_of(slot: u32) -> GuestAddr {
    GuestAddr(gate_asm::slots() + u64::from(slot) * SLOT_LEN as u64)
}

/// The slot whose record `area` lies in.
fn slot_of(area: u64) -> Option<u32> {
    u32::try_from(area.checked_sub(record::first_record())? / SLOT_LEN as u64).ok()
}

/// Gives back a slot that a block has kept.
pub(crate) fn release_spare(slot: u32) {
    RECORDS.release(slot);
}

/// Frees the slots of calls that will never return, but for `kept`. What returns twice may still do so in another
/// thread.
pub(crate) fn release(lost: Lost, kept: Option<u32>) {
    for (slot, record) in RECORDS.taken() {
        let is_pending = record.pending.load(Ordering::Relaxed) != 0;
        let returns_there = is_pending && record.returns_twice.load(Ordering::Relaxed) != 0;
        if record.claim.is_of(lost) && !returns_there && kept != Some(slot) {
            record.pending.store(0, Ordering::Relaxed);
            RECORDS.release(slot);
        }
    }
}

/// In a forked child: frees all slots but dedicated ones and those of calls that its one thread is still in, which are
/// calls that the handler that forked has interrupted.
pub(crate) fn release_all_but(fs_base: Option<u64>) {
    for (slot, record) in RECORDS.taken() {
        let is_pending = record.pending.load(Ordering::Relaxed) != 0;
        let is_own = is_pending && fs_base.is_some_and(|base| record.claim.holder() == base);
        if !is_own && record.resume.load(Ordering::Relaxed) == 0 {
            RECORDS.release(slot);
        }
    }
}

/// How many exit events have been lost.
#[must_use]
pub(crate) fn missed_exits() -> u64 {
    RECORDS.missed.load(Ordering::Relaxed)
}

/// Counts a call whose exit event is lost because every slot is taken.
pub(crate) fn count_missed() {
    RECORDS.missed.fetch_add(1, Ordering::Relaxed);
}
