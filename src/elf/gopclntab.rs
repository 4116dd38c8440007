//! Function starts from Go's program counter table, which stripped Go programs keep.
//!
//! The Go runtime needs `.gopclntab` to walk its own stacks, so it is there when symbols and unwind tables
//! are not. Three layouts (go/src/debug/gosym/pclntab.go): Go 1.2 and 1.16 with absolute entries, 1.18 and 1.20
//! with 32-bit offsets from the start of the text.

use super::eh_frame::Placed;

const MAGIC_1_2: u32 = 0xffff_fffb;
const MAGIC_1_16: u32 = 0xffff_fffa;
const MAGIC_1_18: u32 = 0xffff_fff0;
const MAGIC_1_20: u32 = 0xffff_fff1;

/// The sorted table of function entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PcTable<'f> {
    rows: Rows<'f>,
}

#[derive(Clone, Copy, Debug)]
enum Rows<'f> {
    /// An absolute address and an offset, eight bytes each.
    Absolute(&'f [[u8; 16]]),
    /// Two offsets of four bytes, the first from `text`.
    Relative { text: u64, rows: &'f [[u8; 8]] },
}

impl<'f> PcTable<'f> {
    /// The table that begins at the start of `section`, or `None` if it is none that is known.
    ///
    /// In a position-independent program the addresses in it may be left to the dynamic linker and are zero in
    /// the file; then nothing can be said.
    #[must_use]
    pub(crate) fn parse(section: Placed<'f>) -> Option<Self> {
        let bytes = section.bytes;
        let magic = u32::from_le_bytes(*bytes.first_chunk::<4>()?);
        // Two zero bytes, the instruction quantum of x86, the pointer size.
        if bytes.get(4..8)? != [0, 0, 1, 8] {
            return None;
        }
        let word = |index: usize| -> Option<u64> {
            let at = index.checked_mul(8)?.checked_add(8)?;
            Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?))
        };
        let table = |at: u64| bytes.get(usize::try_from(at).ok()?..);
        // One row more than there are functions: the last holds where the text ends.
        let count = usize::try_from(word(0)?).ok()?.checked_add(1)?;
        let rows = match magic {
            MAGIC_1_2 => Rows::Absolute(table(16)?.as_chunks().0.get(..count)?),
            MAGIC_1_16 => Rows::Absolute(table(word(6)?)?.as_chunks().0.get(..count)?),
            MAGIC_1_18 | MAGIC_1_20 => {
                let text = word(2).filter(|text| *text != 0)?;
                Rows::Relative { text, rows: table(word(7)?)?.as_chunks().0.get(..count)? }
            }
            _ => return None,
        };
        Some(Self { rows })
    }

    /// The entry of the function that holds `vaddr`, and that of the next one.
    #[must_use]
    pub(crate) fn covering(&self, vaddr: u64) -> Option<(u64, u64)> {
        let index = self.index_after(vaddr).checked_sub(1)?;
        self.extent(index).filter(|(start, end)| *start <= vaddr && vaddr < *end)
    }

    /// The functions that start before `end`, in descending order.
    pub(crate) fn descending_from(&self, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        (0..self.index_after(end.saturating_sub(1))).rev().filter_map(|index| self.extent(index))
    }

    /// Where the first function that starts at or after `vaddr` starts.
    #[must_use]
    pub(crate) fn next_start(&self, vaddr: u64) -> Option<u64> {
        self.start_of(vaddr.checked_sub(1).map_or(0, |before| self.index_after(before)))
    }

    fn extent(&self, index: usize) -> Option<(u64, u64)> {
        let extent = (self.start_of(index)?, self.start_of(index.checked_add(1)?)?);
        (extent.0 < extent.1).then_some(extent)
    }

    fn index_after(&self, vaddr: u64) -> usize {
        match self.rows {
            Rows::Absolute(rows) => rows.partition_point(|row| absolute(row) <= vaddr),
            Rows::Relative { text, rows } => rows.partition_point(|row| relative(text, row) <= vaddr),
        }
    }

    fn start_of(&self, index: usize) -> Option<u64> {
        match self.rows {
            Rows::Absolute(rows) => rows.get(index).map(absolute),
            Rows::Relative { text, rows } => rows.get(index).map(|row| relative(text, row)),
        }
    }
}

fn absolute(row: &[u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *row;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

fn relative(text: u64, row: &[u8; 8]) -> u64 {
    let [a, b, c, d, ..] = *row;
    text.wrapping_add(u64::from(u32::from_le_bytes([a, b, c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const TEXT: u64 = 0x40_1000;

    /// A table of two functions: at 0 and at 0x40 of the text, which ends at 0x60.
    fn table(magic: u32, text: u64) -> Vec<u8> {
        let mut bytes = Vec::from(magic.to_le_bytes());
        bytes.extend_from_slice(&[0, 0, 1, 8]);
        let is_relative = matches!(magic, MAGIC_1_18 | MAGIC_1_20);
        let mut words = std::vec![2_u64];
        match magic {
            MAGIC_1_2 => {}
            MAGIC_1_16 => words.extend([0, 0, 0, 0, 0, 64]),
            _ => words.extend([0, text, 0, 0, 0, 0, 72]),
        }
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        for entry in [0_u64, 0x40, 0x60] {
            if is_relative {
                bytes.extend_from_slice(&(entry as u32).to_le_bytes());
                bytes.extend_from_slice(&[0; 4]);
            } else {
                bytes.extend_from_slice(&(TEXT + entry).to_le_bytes());
                bytes.extend_from_slice(&[0; 8]);
            }
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<PcTable<'_>> {
        PcTable::parse(Placed { vaddr: 0x50_0000, bytes })
    }

    #[test]
    fn every_layout_gives_the_same_functions() {
        for magic in [MAGIC_1_2, MAGIC_1_16, MAGIC_1_18, MAGIC_1_20] {
            let bytes = table(magic, TEXT);
            let found = parse(&bytes).unwrap();
            assert_eq!(found.covering(TEXT + 0x3f), Some((TEXT, TEXT + 0x40)), "{magic:#x}");
            assert_eq!(found.covering(TEXT + 0x40), Some((TEXT + 0x40, TEXT + 0x60)), "{magic:#x}");
            assert_eq!(found.covering(TEXT + 0x60), None, "{magic:#x}");
            assert_eq!(found.next_start(TEXT + 1), Some(TEXT + 0x40), "{magic:#x}");
        }
    }

    #[test]
    fn a_text_start_that_the_dynamic_linker_fills_in_says_nothing() {
        assert!(parse(&table(MAGIC_1_20, 0)).is_none());
    }

    #[test]
    fn a_cut_off_or_unknown_table_is_none() {
        let bytes = table(MAGIC_1_18, TEXT);
        for len in 0..bytes.len() {
            assert!(parse(&bytes[..len]).is_none(), "{len}");
        }
        assert!(parse(&table(0xffff_fff2, TEXT)).is_none());
    }

    proptest! {
        #[test]
        fn a_damaged_table_never_breaks_a_lookup(at in 0_usize..100, value in any::<u8>(), vaddr in any::<u64>()) {
            let mut bytes = table(MAGIC_1_18, TEXT);
            if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            if let Some(table) = parse(&bytes) {
                prop_assert!(table.covering(vaddr).is_none_or(|(start, end)| start <= vaddr && vaddr < end));
            }
        }
    }
}
