//! What it means that a thread is on its way from a site to its stub.
//!
//! Between the two lie up to [`JUMPS_MAX`] jumps that no original instruction corresponds to: in padding, and where puns
//! and far gates have their trampolines. A thread there has done nothing yet but leave the site, so it can be shown at
//! the instruction that the stub stands in for. A jump of the program's own that leads to a site is not one of them: the
//! walk meets the site before it meets the stub.

use crate::addr::{AddrRange, GuestAddr};
use crate::plan::padding::HOPS_MAX;
use crate::x86::encode::{JMP_ABS_LEN, JMP_REL8, JMP_REL8_LEN, JMP_REL32, JMP_REL32_LEN, jmp_abs};

/// How many jumps lie between a site and its stub at most: its own, those of a chain, a long one, a trampoline's.
pub(super) const JUMPS_MAX: usize = HOPS_MAX + 3;

/// The bytes that are needed to see a jump.
pub(crate) type Window = [u8; JMP_ABS_LEN];

/// Where the jumps from `from` on lead, if that is in `stubs` and not past the instruction that enters there.
///
/// `code` gives the bytes at an address of patched code; `origin` the address of the original instruction that an
/// address in a stub stands for.
pub(crate) fn entry_from(
    from: GuestAddr,
    stubs: AddrRange,
    code: impl Fn(GuestAddr) -> Option<Window>,
    origin: impl Fn(GuestAddr) -> Option<GuestAddr>,
) -> Option<GuestAddr> {
    let mut passed = heapless::Vec::<GuestAddr, { JUMPS_MAX }>::new();
    let mut at = from;
    while !stubs.contains(at) {
        passed.push(at).ok()?;
        at = target(at, &code(at)?)?;
    }
    let origin = origin(at)?;
    let is_before = passed.iter().skip(1).any(|passed| *passed == origin);
    (!is_before).then_some(at)
}

/// Where the jump at `at` goes, if it is one that patches are made of.
fn target(at: GuestAddr, code: &Window) -> Option<GuestAddr> {
    let relative = |len: usize, rel: i64| Some(at.wrapping_add(len as u64).wrapping_add(rel.cast_unsigned()));
    match *code {
        [JMP_REL8, rel, ..] => relative(JMP_REL8_LEN, i64::from(rel.cast_signed())),
        [JMP_REL32, a, b, c, d, ..] => relative(JMP_REL32_LEN, i64::from(i32::from_le_bytes([a, b, c, d]))),
        _ => {
            let target = GuestAddr(u64::from_le_bytes(*code.last_chunk()?));
            (*code == jmp_abs(target)).then_some(target)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x86::encode::{jmp_rel8, jmp_rel32};

    const SITE: GuestAddr = GuestAddr(0x40_0010);
    const PADDING: GuestAddr = GuestAddr(0x40_0030);
    const FAR: GuestAddr = GuestAddr(0x50_0000);
    const ENTRY: GuestAddr = GuestAddr(0x7000_0000_0009);
    const STUBS: AddrRange =
        AddrRange { start: GuestAddr(0x7000_0000_0000), end: GuestAddr(0x7000_0001_0000) };

    fn padded(bytes: &[u8]) -> Option<Window> {
        let mut window = [0xc3; JMP_ABS_LEN];
        window[..bytes.len()].copy_from_slice(bytes);
        Some(window)
    }

    fn code(at: GuestAddr) -> Option<Window> {
        match at {
            SITE => padded(&jmp_rel8(SITE, PADDING)?),
            PADDING => padded(&jmp_rel32(PADDING, FAR)?),
            FAR => Some(jmp_abs(ENTRY)),
            GuestAddr(0x40_0000) => padded(&jmp_rel8(at, SITE)?),
            GuestAddr(0x40_0040) => padded(&jmp_rel8(at, at)?),
            _ => None,
        }
    }

    fn entry(from: GuestAddr) -> Option<GuestAddr> {
        entry_from(from, STUBS, code, |at| (at == ENTRY).then_some(SITE))
    }

    #[test]
    fn every_jump_on_the_way_leads_to_the_stub() {
        assert_eq!([SITE, PADDING, FAR].map(entry), [Some(ENTRY); 3]);
    }

    #[test]
    fn a_jump_to_the_site_is_the_programs_own() {
        assert_eq!(entry(GuestAddr(0x40_0000)), None);
    }

    #[test]
    fn what_leads_nowhere_or_round_in_circles_is_no_way() {
        assert_eq!(entry(GuestAddr(0x40_0001)), None);
        assert_eq!(entry(GuestAddr(0x40_0040)), None);
    }
}
