//! Pages at the addresses where punned jumps land. Zone: load, and call with the patcher's lock held.
//!
//! Which addresses are free only the kernel knows; asking it to map exactly there, and only if nothing lies there, is
//! the answer and the reservation in one. A page that turns out taken is left out of the next plan.

use crate::abi::map::Protection;
use crate::addr::{AddrRange, GuestAddr, PAGE};
use crate::plan::Plan;
use crate::sys::mem::{self, Place};
use alloc::vec::Vec;

/// Plans that are made before punning is given up for a text.
const TRIES: usize = 8;

/// Makes plans with `draft` until the kernel grants all pages that one wants outside of `near`. Returns that plan and
/// its pages, with `rights`; at worst a plan that puns nothing.
pub(crate) fn plan(
    room: &[AddrRange],
    near: Option<AddrRange>,
    rights: Protection,
    draft: impl Fn(&[AddrRange]) -> Plan,
) -> (Plan, Vec<GuestAddr>) {
    let mut room: Vec<AddrRange> = room.to_vec();
    for _ in 0..TRIES {
        let plan = draft(&room);
        let mut granted = Vec::new();
        let mut taken = Vec::new();
        for page in pages(&plan, near) {
            match mem::map_anonymous(Place::Free(page), PAGE, rights) {
                Ok(_) => {
                    mem::name(AddrRange::new(page, page.wrapping_add(PAGE)), c"loader:trampolines");
                    granted.push(page);
                }
                Err(_) => taken.push(page),
            }
        }
        if taken.is_empty() {
            return (plan, granted);
        }
        granted.iter().for_each(|&page| mem::unmap(AddrRange::new(page, page.wrapping_add(PAGE))));
        taken.iter().for_each(|&page| exclude(&mut room, page));
    }
    (draft(&[]), Vec::new())
}

/// The pages that the plan's trampolines touch, but for those in `near`, in ascending order.
fn pages(plan: &Plan, near: Option<AddrRange>) -> Vec<GuestAddr> {
    let outside =
        plan.trampolines.iter().filter(|trampoline| !near.is_some_and(|near| near.contains(trampoline.at)));
    let mut pages: Vec<GuestAddr> = outside
        .flat_map(|trampoline| {
            let last = trampoline.at.wrapping_add(trampoline.bytes.len() as u64 - 1);
            [trampoline.at.page_floor(), last.page_floor()]
        })
        .collect();
    pages.sort_unstable();
    pages.dedup();
    pages
}

/// What is left out around a page that is taken: a mapping seldom stands alone, and each try costs a whole plan.
const MARGIN: u64 = 8 << 20;

/// Takes the surroundings of `page` out of the room.
fn exclude(room: &mut Vec<AddrRange>, page: GuestAddr) {
    let hole = AddrRange::new(page.wrapping_sub(MARGIN), page.wrapping_add(MARGIN));
    let parts: Vec<AddrRange> = room
        .iter()
        .flat_map(|range| {
            [
                AddrRange::new(range.start, range.end.min(hole.start)),
                AddrRange::new(range.start.max(hole.end), range.end),
            ]
        })
        .filter(|range| !range.is_empty())
        .collect();
    *room = parts;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excluding_a_page_leaves_what_is_far_from_it() {
        let range = |start: u64, end: u64| AddrRange::new(GuestAddr(start), GuestAddr(end));
        let mut room = std::vec![range(0x1000_0000, 0x2000_0000), range(0x3000_0000, 0x4000_0000)];
        exclude(&mut room, GuestAddr(0x1800_0000));
        assert_eq!(
            room,
            [
                range(0x1000_0000, 0x1800_0000 - MARGIN),
                range(0x1800_0000 + MARGIN, 0x2000_0000),
                range(0x3000_0000, 0x4000_0000)
            ]
        );
        exclude(&mut room, GuestAddr(0x1000_0000));
        assert_eq!(room[0].start, GuestAddr(0x1000_0000 + MARGIN));
    }
}
