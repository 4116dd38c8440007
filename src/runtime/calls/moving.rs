//! `mremap`: code that comes to lie elsewhere. Zone: load, and call with the patcher's lock held.

use crate::abi::map::{self as flags, Sharing};
use crate::addr::{AddrRange, GuestAddr, page_ceil};
use crate::runtime::calls::patching::{self, Running};
use crate::runtime::code::job::Access;
use crate::runtime::code::patched;
use crate::runtime::code::patcher::{self, Patcher};
use crate::runtime::gate::step::Step;
use crate::runtime::memory::file_pages;
use crate::runtime::memory::maps::{self, Mapping};
use crate::runtime::session::followed::Followed;
use crate::sys::mem;

/// `mremap`: code that moves is patched for where it comes to lie.
#[inline(never)]
pub(crate) fn remap(followed: Followed<'_>) -> Step {
    let Followed { block, call, .. } = followed;
    let [from, old_len, new_len, bits, to, _] = call.args;
    let bits = bits as u32;
    // A length of 0 is that of shared pages, which have no patches.
    let Some(old) = patching::pages(from, old_len) else { return Step::Pass };
    let replaced = patching::pages(to, new_len).filter(|_| bits & flags::REMAP_FIXED != 0);
    file_pages::known().remove(old);
    if !patched::known().overlaps(old) && !replaced.is_some_and(|range| patched::known().overlaps(range)) {
        return Step::Pass;
    }
    patching::with_patcher(block, |patcher| {
        let result = patching::raw(call);
        if let (Ok(at), Some(new_len)) = (result, page_ceil(new_len)) {
            let new = AddrRange::new(GuestAddr(at), GuestAddr(at.wrapping_add(new_len)));
            if new.start == old.start {
                patcher.forget(AddrRange::new(new.end, old.end));
                patcher.look(AddrRange::new(old.end, new.end), Running::Nobody);
            } else {
                patcher.forget(new);
                patcher.follow(old, new);
                if bits & flags::REMAP_DONTUNMAP != 0 {
                    patcher.look(old, Running::Nobody);
                }
            }
        }
        patching::answer(result)
    })
}

impl Patcher {
    /// Code has moved: its patches are taken back where it lies now, and made anew.
    fn follow(&mut self, old: AddrRange, new: AddrRange) {
        let shift = new.start.0.wrapping_sub(old.start.0);
        // SAFETY: what is known of the mappings lives no longer than this.
        unsafe {
            patcher::with_scratch(|| {
                for mapping in maps::within(new).unwrap_or_default() {
                    let Mapping { range, protection, .. } = mapping;
                    if mapping.sharing == Sharing::Private
                        && mem::protect(range, protection.while_patching()).is_ok()
                    {
                        self.restore_moved(range, shift);
                        if protection.executable() {
                            self.patch_mapping(&mapping, Access::Writable);
                        }
                        let _ = mem::protect(range, protection);
                    }
                }
            });
        }
        self.forget(old);
    }
}
