//! All blocks: finding, taking and giving back. Zone: call.
//!
//! The *shared* blocks serve threads without an fs base or with one that others may share, hash collisions, processors
//! without FSGSBASE, and hooks nested in a hook of the same thread. They are taken with `xchg`.

use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr};
use crate::runtime::gate::block::{Block, HEADER, LEN};
use crate::runtime::gate::claim::Lost;
use crate::runtime::gate::generation;
use crate::sys::mem::{self, Place};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Owned blocks; a power of two.
pub(crate) const OWNED: u64 = 128;

/// Shared blocks.
pub(crate) const SHARED: u64 = 64;

/// Spreads fs bases, which are alike in their low bits and 8 MiB or less apart, over the owned blocks: 2^32 divided by
/// the golden ratio, as an immediate of `imul`.
pub(crate) const HASH: i32 = 0x9e37_79b1_u32 as i32;

/// The product's bits from here on are the index; those above depend on high bits only, in which threads are alike.
pub(crate) const HASH_SHIFT: u32 = 41;

/// Where the blocks are, and which of them are in use; parts of it are read by `enter_asm`.
#[repr(C)]
#[derive(Debug)]
pub(super) struct Pool {
    /// The header of the first owned block.
    pub(super) owned: AtomicU64,
    /// The header of the first shared block.
    pub(super) shared: AtomicU64,
    /// The end of the shared blocks.
    pub(super) shared_end: AtomicU64,
    /// 1 if `rdfsbase` may be used (AT_HWCAP2 bit 1, Documentation/arch/x86/x86_64/fsgs.rst).
    pub(super) fsgsbase: AtomicU8,
    /// Which owned blocks have had owners.
    adopted: Adopted,
}

/// A fork frees what other threads were on: [`keep_busy`].
pub(super) static POOL: Pool = Pool {
    owned: AtomicU64::new(0),
    shared: AtomicU64::new(0),
    shared_end: AtomicU64::new(0),
    fsgsbase: AtomicU8::new(0),
    adopted: Adopted::new(),
};

/// Whether `rdfsbase` may be used.
#[must_use]
pub(crate) fn has_fsgsbase() -> bool {
    POOL.fsgsbase.load(Ordering::Relaxed) != 0
}

/// Says whether `rdfsbase` may be used, before any hook runs.
pub(crate) fn allow_fsgsbase(is_allowed: bool) {
    POOL.fsgsbase.store(is_allowed.into(), Ordering::Relaxed);
}

/// Maps the blocks.
///
/// # Errors
///
/// The kernel's, if there is no room.
pub(crate) fn set_up() -> Result<(), Errno> {
    // A block is free while its number is smaller, as the zeros of fresh memory are.
    generation::start(1);
    let len = (OWNED + SHARED) * LEN;
    // One block more, so that an aligned start exists inside.
    let at = mem::map_anonymous(Place::Anywhere, len + LEN, Protection::READ_WRITE)?;
    let start = GuestAddr(at.0.next_multiple_of(LEN));
    let end = start.wrapping_add(len);
    mem::unmap(AddrRange::new(at, start));
    mem::unmap(AddrRange::new(end, at.wrapping_add(len + LEN)));
    mem::name(AddrRange::new(start, end), c"loader:stacks");
    let header = LEN - HEADER;
    POOL.owned.store(start.0 + header, Ordering::Relaxed);
    POOL.shared.store(start.0 + OWNED * LEN + header, Ordering::Relaxed);
    POOL.shared_end.store(end.0, Ordering::Relaxed);
    Ok(())
}

/// All blocks.
#[must_use]
pub(crate) fn mapping() -> AddrRange {
    let start = POOL.owned.load(Ordering::Relaxed).wrapping_sub(LEN - HEADER);
    AddrRange::new(GuestAddr(start), GuestAddr(POOL.shared_end.load(Ordering::Relaxed)))
}

/// The block whose stack or header `at` lies in.
#[must_use]
pub(crate) fn around(at: GuestAddr) -> Option<&'static Block> {
    let all = mapping();
    // A stack that is still empty ends where the next block begins.
    let inside = at.wrapping_sub(1);
    all.contains(inside).then(|| header_at(&POOL.owned, (inside.0 - all.start.0) / LEN))
}

/// Takes a shared block for `holder`, for as long as it is not freed.
pub(crate) fn take_shared(holder: u64) -> &'static mut Block {
    let generation = generation::current();
    loop {
        for index in 0..SHARED {
            let block = header_at(&POOL.shared, index);
            if !block.is_busy() && block.busy.swap(generation, Ordering::Acquire) < generation {
                block.claim.stamp(holder);
                // SAFETY: whoever has made it busy is its only user.
                return unsafe { &mut *pointer_at(&POOL.shared, index) };
            }
        }
    }
}

/// The index of the owned block that `fs_base` hashes to; the same arithmetic as in `enter_asm`.
#[must_use]
pub(crate) const fn index_of(fs_base: u64) -> u64 {
    fs_base.wrapping_mul(HASH as i64 as u64) >> HASH_SHIFT & (OWNED - 1)
}

fn header_at(first: &AtomicU64, index: u64) -> &'static Block {
    // SAFETY: `set_up` mapped the blocks for good before any call came; a header is valid when all zero, and what
    // threads share of it is atomic.
    unsafe { &*pointer_at(first, index) }
}

fn pointer_at(first: &AtomicU64, index: u64) -> *mut Block {
    core::ptr::with_exposed_provenance_mut((first.load(Ordering::Relaxed) + index * LEN) as usize)
}

/// Makes the thread with `fs_base` the owner of its block for the next hooks, if nobody else is.
pub(crate) fn adopt(fs_base: u64) {
    let block = header_at(&POOL.owned, index_of(fs_base));
    let key = fs_base.wrapping_add(1);
    if block.owner.load(Ordering::Relaxed) == 0
        && block.owner.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    {
        block.next_owner.store(key, Ordering::Relaxed);
        POOL.adopted.insert(index_of(fs_base));
    }
}

/// The block that the thread with `fs_base` owns, if it does.
fn owned_by(fs_base: u64) -> Option<&'static Block> {
    let block = header_at(&POOL.owned, index_of(fs_base));
    (block.owner.load(Ordering::Relaxed) == fs_base.wrapping_add(1)).then_some(block)
}

/// The record slot that is kept in the block of the thread with `fs_base`.
#[must_use]
pub(crate) fn spare_of(fs_base: u64) -> Option<u32> {
    owned_by(fs_base)?.spare.slot()
}

/// Leaves the block of the calling thread, whose fs base is `fs_base`, to nobody once no hook runs on it: the thread
/// exits, or its base is about to be another's as well. Returns the record slot that was kept in it.
pub(crate) fn disown(fs_base: u64) -> Option<u32> {
    let block = owned_by(fs_base)?;
    let spare = block.spare.slot();
    block.spare.set(None);
    block.next_owner.store(0, Ordering::Relaxed);
    if !block.is_busy() {
        block.owner.store(0, Ordering::Relaxed);
    }
    spare
}

/// The shared blocks that have ever been taken. They are taken from the first on, so behind one that was not there is
/// none, and untouched pages stay untouched.
fn taken_shared() -> impl Iterator<Item = &'static Block> {
    let shared = (0..SHARED).map(|index| header_at(&POOL.shared, index));
    shared.take_while(|block| block.claim.vforks() != 0)
}

/// Frees the shared blocks of hooks that were lost, but for `own` and what waits for it.
pub(crate) fn release(lost: Lost, own: &Block) {
    for block in taken_shared().filter(|block| block.claim.is_of(lost) && !block.belongs_to(own)) {
        block.forget();
    }
}

/// Frees the block that the thread with `fs_base` owns from a hook that was lost, unless it belongs to `own`.
pub(crate) fn release_owned(fs_base: u64, own: &Block) {
    if let Some(block) = owned_by(fs_base).filter(|block| !block.belongs_to(own)) {
        block.forget();
    }
}

/// In a forked child: the blocks that its one thread is on, `own` and those of hooks that the
/// handler that forked has interrupted, stay busy in the generation `next`.
pub(crate) fn keep_busy(own: &Block, fs_base: Option<u64>, next: u32) {
    let is_kept = |block: &Block| block.belongs_to(own) || Some(block.holder()) == fs_base;
    for block in taken_shared().chain(adopted()).filter(|block| block.is_busy()) {
        if is_kept(block) {
            block.busy.store(next, Ordering::Relaxed);
        } else {
            block.forget();
        }
    }
}

fn adopted() -> impl Iterator<Item = &'static Block> {
    let adopted = (0..OWNED).filter(|index| POOL.adopted.contains(*index));
    adopted.map(|index| header_at(&POOL.owned, index))
}

/// In a forked child: threads that have not come along own nothing. One that is missed, because its block was adopted
/// while the memory was copied, only keeps others from owning that block.
pub(crate) fn forget_owners(fs_base: Option<u64>) {
    let own = fs_base.map_or(0, |base| base.wrapping_add(1));
    for block in adopted() {
        if ![0, own].contains(&block.owner.load(Ordering::Relaxed)) {
            block.owner.store(0, Ordering::Relaxed);
        }
    }
}

/// The owned blocks that have ever had an owner.
#[derive(Debug)]
struct Adopted([AtomicU64; OWNED as usize / 64]);

impl Adopted {
    /// None.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; OWNED as usize / 64])
    }

    fn contains(&self, index: u64) -> bool {
        self.0
            .get(index as usize / 64)
            .is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (index % 64)) != 0)
    }

    fn insert(&self, index: u64) {
        if let Some(word) = self.0.get(index as usize / 64) {
            word.fetch_or(1 << (index % 64), Ordering::Relaxed);
        }
    }
}

impl Default for Adopted {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_fs_base_hashes_to_an_owned_block(fs_base in any::<u64>()) {
            prop_assert!(index_of(fs_base) < OWNED);
        }
    }

    #[test]
    fn threads_of_one_process_spread_over_the_blocks() {
        // glibc puts thread stacks 8 MiB and a guard page apart, the thread block at a fixed place of each.
        let bases = (0..32_u64).map(|thread| 0x7fff_f7d8_a740 - thread * (8 * 1024 * 1024 + 4096));
        let indices: std::collections::BTreeSet<_> = bases.map(index_of).collect();
        assert!(indices.len() > 20, "{} different blocks for 32 threads", indices.len());
    }
}
