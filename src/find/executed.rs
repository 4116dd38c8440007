//! Whether a hit that was executed and could not be proved before can be replaced now.
//!
//! That it was executed proves it to be an instruction, but perhaps one in the middle of another, or among data that is read as
//! well. If it was executed with the very number that the bytes right before it load, control came through them, and most
//! readings of what is before those agree that an instruction starts there.

use crate::addr::GuestAddr;
use crate::find::anchor;
use crate::find::search::Found;
use crate::find::site::{Site, Span, Text, Verdict};

/// The length of `mov eax, imm32` in bytes.
pub(crate) const LOAD_LEN: usize = 5;

/// The instruction that loads the number `nr` (SDM vol. 2B, MOV).
#[must_use]
pub(crate) const fn load_of(nr: u32) -> [u8; LOAD_LEN] {
    let [a, b, c, d] = nr.to_le_bytes();
    [0xb8, a, b, c, d]
}

/// The hit at `at`, of those that were `found`, as a site: it was executed with the number `nr`.
#[must_use]
pub(crate) fn site(text: &Text<'_>, at: GuestAddr, nr: u32, found: &Found) -> Option<Site> {
    match found.hits.iter().find(|hit| hit.at == at)?.verdict {
        Verdict::Site(site) => Some(site),
        Verdict::Inside(_) | Verdict::Restorer => None,
        Verdict::Unproved(_) => {
            let load = Span { at: at.wrapping_sub(LOAD_LEN as u64), len: LOAD_LEN as u8 };
            let is_loaded = text.slice(load.at, LOAD_LEN)? == load_of(nr);
            let is_code = is_loaded && anchor::is_boundary(text, text.offset(load.at)?);
            is_code.then_some(Site { predecessor: Some(load), ..Site::executed(at) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::functions::Functions;
    use crate::find::search;

    const AT: GuestAddr = GuestAddr(0x1000);
    /// mov eax, 39; syscall
    const CALL: [u8; 7] = [0xb8, 39, 0, 0, 0, 0x0f, 0x05];

    fn site_in(code: &[u8], offset: u64, nr: u32) -> Option<Site> {
        let text = Text { at: AT, bytes: code };
        site(&text, AT.wrapping_add(offset), nr, &search::hits(&text, 0, &Functions::unknown()))
    }

    #[test]
    fn control_came_through_the_load_of_its_number() {
        // The byte behind it is no instruction, so it is not proved.
        let code = [&[0x90; 24][..], &CALL, &[0x06, 0x06]].concat();
        let load = Span { at: AT.wrapping_add(24), len: 5 };
        let expected = Site { predecessor: Some(load), ..Site::executed(AT.wrapping_add(29)) };
        assert_eq!(site_in(&code, 29, 39), Some(expected));
        assert_eq!(site_in(&code, 29, 40), None);
        assert_eq!(site_in(&code, 28, 39), None);
    }

    #[test]
    fn what_lies_in_a_constant_stays() {
        // movabs rax, imm64, behind which nothing can be proved.
        let code = [&[0x90; 24][..], &[0x48, 0xb8], &CALL, &[0, 0x06, 0x06]].concat();
        assert_eq!(site_in(&code, 31, 39), None);
    }
}
