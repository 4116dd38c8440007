//! Function extents from unwind tables, looked up one at a time.
//!
//! Compilers and the linker leave `.eh_frame_hdr` in stripped files too, and its sorted table leads to one frame
//! description entry by binary search, so a lookup costs the same in a library of any size. Formats: LSB Core
//! 5.0, 10.6 (`.eh_frame`, `.eh_frame_hdr`, pointer encodings). Everything here comes from a file: an
//! entry that contradicts itself is no entry.

use alloc::vec::Vec;
use core::cell::Cell;

/// Bytes of a file and the link-time address of the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'f> {
    /// The link-time address of the first byte.
    pub vaddr: u64,
    /// The bytes.
    pub bytes: &'f [u8],
}

/// The code that one frame description entry covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// The link-time address of the first byte.
    pub start: u64,
    /// The link-time address past the last byte; above `start`.
    pub end: u64,
    /// Whether it describes a signal frame; such an entry starts one byte before the code, so that
    /// unwinders that look up a return address minus one find it.
    pub is_signal: bool,
}

/// One row of the table in `.eh_frame_hdr`: two offsets from the header.
type Row = [u8; 8];

/// Pointer encodings (LSB Core 5.0, 10.5.1).
const FORMAT_MASK: u8 = 0x0f;
const APPLICATION_MASK: u8 = 0x70;
const PCREL: u8 = 0x10;
const DATAREL: u8 = 0x30;
const INDIRECT: u8 = 0x80;
const DATAREL_SDATA4: u8 = 0x3b;

/// `.eh_frame` with the table that sorts it.
#[derive(Clone, Debug)]
pub(crate) struct Frames<'f> {
    hdr_vaddr: u64,
    rows: &'f [Row],
    /// Where the last search in `rows` ended.
    near: Cell<usize>,
    section: Placed<'f>,
}

impl<'f> Frames<'f> {
    /// The tables whose header is `hdr`, a PT_GNU_EH_FRAME segment; `bytes_from` gives what the file
    /// holds at a link-time address and after it.
    ///
    /// `None` if the header has no sorted table of the one form that linkers write.
    #[must_use]
    pub(crate) fn parse(hdr: Placed<'f>, bytes_from: impl Fn(u64) -> Option<&'f [u8]>) -> Option<Self> {
        let mut cursor = Cursor::new(hdr);
        let [version, pointer_enc, count_enc, table_enc] = cursor.array()?;
        if version != 1 || table_enc != DATAREL_SDATA4 {
            return None;
        }
        let vaddr = cursor.pointer(pointer_enc, hdr.vaddr)?;
        let count = usize::try_from(cursor.pointer(count_enc, hdr.vaddr)?).ok()?;
        let (rows, _) = hdr.bytes.get(cursor.next..)?.as_chunks::<8>();
        let section = Placed { vaddr, bytes: bytes_from(vaddr)? };
        let rows = rows.get(..count.min(rows.len()))?;
        Some(Self { hdr_vaddr: hdr.vaddr, rows, near: Cell::new(0), section })
    }

    /// The entry that covers `vaddr`.
    #[must_use]
    pub(crate) fn covering(&self, vaddr: u64) -> Option<Frame> {
        let index = self.index_after(vaddr).checked_sub(1)?;
        self.frame(index).filter(|frame| frame.start <= vaddr && vaddr < frame.end)
    }

    /// The entries that start before `end`, in descending order of their start.
    pub(crate) fn descending_from(&self, end: u64) -> impl Iterator<Item = Frame> + '_ {
        (0..self.index_after(end.saturating_sub(1))).rev().filter_map(|index| self.frame(index))
    }

    /// Where the first entry that starts at or after `vaddr` starts.
    #[must_use]
    pub(crate) fn next_start(&self, vaddr: u64) -> Option<u64> {
        let index = vaddr.checked_sub(1).map_or(0, |before| self.index_after(before));
        self.rows.get(index).map(|row| self.start_of(row))
    }

    /// How many rows start at or before `vaddr`.
    fn index_after(&self, vaddr: u64) -> usize {
        partition_near(self.rows, &self.near, |row| self.start_of(row) <= vaddr)
    }

    fn start_of(&self, row: &Row) -> u64 {
        let [a, b, c, d, ..] = *row;
        self.hdr_vaddr.wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d])))
    }

    fn frame(&self, index: usize) -> Option<Frame> {
        let row = self.rows.get(index)?;
        let [.., a, b, c, d] = *row;
        let entry = self.hdr_vaddr.wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d])));
        let at = usize::try_from(entry.checked_sub(self.section.vaddr)?).ok()?;
        entry_at(self.section, at)?.frame.filter(|frame| frame.start == self.start_of(row))
    }
}

/// How many of the `items`, which are sorted so, `is_before` holds for. Searched outward from where the last search
/// ended, `near`, because questions about one place follow each other.
pub(super) fn partition_near<T>(items: &[T], near: &Cell<usize>, is_before: impl Fn(&T) -> bool) -> usize {
    let from = near.get().min(items.len());
    let (mut low, mut high, mut step) = (from, from, 1);
    while low > 0 && !items.get(low - 1).is_some_and(&is_before) {
        (high, low) = (low - 1, low.saturating_sub(step));
        step *= 2;
    }
    while high >= from && items.get(high).is_some_and(&is_before) {
        (low, high) = (high + 1, (high + step).min(items.len()));
        step *= 2;
    }
    let found = low + items.get(low..high).unwrap_or_default().partition_point(&is_before);
    near.set(found);
    found
}

/// All entries of a `.eh_frame` section in file order, for files whose header has no table.
#[must_use]
pub(crate) fn walk(section: Placed<'_>) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some(entry) = entry_at(section, at)
        && entry.next > at
    {
        frames.extend(entry.frame);
        at = entry.next;
    }
    frames
}

/// What stands at one place of `.eh_frame`: a description of a frame, or something else of known length.
struct Entry {
    frame: Option<Frame>,
    next: usize,
}

/// The entry at offset `at`, or `None` at the terminator and at anything that is no entry.
fn entry_at(section: Placed<'_>, at: usize) -> Option<Entry> {
    let (body, next) = record(section, at)?;
    let mut cursor = Cursor::new(body);
    let back = usize::try_from(u32::from_le_bytes(cursor.array()?)).ok()?;
    if back == 0 {
        return Some(Entry { frame: None, next });
    }
    let cie_at = at.checked_add(4)?.checked_sub(back)?;
    Some(Entry { frame: description(section, cie_at, cursor), next })
}

/// The body of the length-prefixed record at `at`, and where the next one starts.
fn record(section: Placed<'_>, at: usize) -> Option<(Placed<'_>, usize)> {
    let len = u32::from_le_bytes(*section.bytes.get(at..)?.first_chunk::<4>()?);
    // All ones announce the 64-bit form, which no toolchain writes for x86-64 code under 4 GB of tables.
    if len == 0 || len == u32::MAX {
        return None;
    }
    let start = at.checked_add(4)?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    let vaddr = section.vaddr.wrapping_add(start as u64);
    Some((Placed { vaddr, bytes: section.bytes.get(start..end)? }, end))
}

fn description(section: Placed<'_>, cie_at: usize, mut cursor: Cursor<'_>) -> Option<Frame> {
    let cie = Cie::parse(record(section, cie_at)?.0)?;
    let start = cursor.pointer(cie.encoding, 0)?;
    let len = cursor.pointer(cie.encoding & FORMAT_MASK, 0)?;
    let end = start.checked_add(len)?;
    (end > start).then_some(Frame { start, end, is_signal: cie.is_signal })
}

/// What a common information entry says about how its descriptions are written.
struct Cie {
    encoding: u8,
    is_signal: bool,
}

impl Cie {
    fn parse(body: Placed<'_>) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        let id: [u8; 4] = cursor.array()?;
        let [version] = cursor.array()?;
        if id != [0; 4] || !matches!(version, 1 | 3) {
            return None;
        }
        let augmentation = cursor.until_nul()?;
        cursor.skip_leb128()?;
        cursor.skip_leb128()?;
        if version == 1 {
            cursor.array::<1>()?;
        } else {
            cursor.skip_leb128()?;
        }
        let mut cie = Self { encoding: 0, is_signal: false };
        for letter in augmentation {
            match letter {
                b'z' => cursor.skip_leb128()?,
                b'R' => [cie.encoding] = cursor.array()?,
                b'L' => drop(cursor.array::<1>()?),
                b'P' => {
                    let [encoding] = cursor.array()?;
                    cursor.pointer(encoding & FORMAT_MASK, 0)?;
                }
                b'S' => cie.is_signal = true,
                b'B' => {}
                _ => return None,
            }
        }
        Some(cie)
    }
}

/// Reads forward through bytes whose addresses matter.
struct Cursor<'f> {
    placed: Placed<'f>,
    next: usize,
}

impl<'f> Cursor<'f> {
    const fn new(placed: Placed<'f>) -> Self {
        Self { placed, next: 0 }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let found = *self.placed.bytes.get(self.next..)?.first_chunk::<N>()?;
        self.next = self.next.checked_add(N)?;
        Some(found)
    }

    fn until_nul(&mut self) -> Option<&'f [u8]> {
        let rest = self.placed.bytes.get(self.next..)?;
        let len = rest.iter().position(|byte| *byte == 0)?;
        self.next = self.next.checked_add(len)?.checked_add(1)?;
        rest.get(..len)
    }

    fn skip_leb128(&mut self) -> Option<()> {
        while self.array::<1>()?[0] & 0x80 != 0 {}
        Some(())
    }

    /// A pointer in `encoding`; `data_base` is what data-relative ones count from.
    fn pointer(&mut self, encoding: u8, data_base: u64) -> Option<u64> {
        let here = self.placed.vaddr.wrapping_add(self.next as u64);
        let value = match encoding & FORMAT_MASK {
            0x00 | 0x04 | 0x0c => u64::from_le_bytes(self.array()?),
            0x02 => u64::from(u16::from_le_bytes(self.array()?)),
            0x03 => u64::from(u32::from_le_bytes(self.array()?)),
            0x0a => i64::from(i16::from_le_bytes(self.array()?)).cast_unsigned(),
            0x0b => i64::from(i32::from_le_bytes(self.array()?)).cast_unsigned(),
            _ => return None,
        };
        if encoding & INDIRECT != 0 {
            return None;
        }
        match encoding & APPLICATION_MASK {
            0 => Some(value),
            PCREL => Some(value.wrapping_add(here)),
            DATAREL => Some(value.wrapping_add(data_base)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HDR: u64 = 0x1000;
    const SECTION: u64 = 0x2000;

    /// A CIE, two descriptions behind it, and the header that sorts them.
    fn tables(augmentation: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut section = Vec::new();
        let mut cie = std::vec![0, 0, 0, 0, 1];
        cie.extend_from_slice(augmentation);
        // Code and data alignment, return address column, one byte of augmentation: pcrel sdata4.
        cie.extend_from_slice(&[0, 1, 0x78, 16, 1, 0x1b]);
        push_record(&mut section, &cie);
        let mut rows = Vec::new();
        for (start, len) in [(0x500_u64, 0x20_u32), (0x540, 0x10)] {
            let at = SECTION + section.len() as u64;
            rows.extend_from_slice(&(start.wrapping_sub(HDR) as u32).to_le_bytes());
            rows.extend_from_slice(&((at - HDR) as u32).to_le_bytes());
            let mut fde = Vec::from((section.len() as u32 + 4).to_le_bytes());
            fde.extend_from_slice(&(start.wrapping_sub(at + 8) as u32).to_le_bytes());
            fde.extend_from_slice(&len.to_le_bytes());
            fde.push(0);
            push_record(&mut section, &fde);
        }
        section.extend_from_slice(&[0; 4]);
        let mut hdr = std::vec![1, 0x1b, 0x03, 0x3b];
        hdr.extend_from_slice(&((SECTION - HDR - 4) as u32).to_le_bytes());
        hdr.extend_from_slice(&2_u32.to_le_bytes());
        hdr.extend_from_slice(&rows);
        (hdr, section)
    }

    fn push_record(section: &mut Vec<u8>, body: &[u8]) {
        section.extend_from_slice(&(body.len() as u32).to_le_bytes());
        section.extend_from_slice(body);
    }

    fn parse<'f>(hdr: &'f [u8], section: &'f [u8]) -> Option<Frames<'f>> {
        let from = |vaddr: u64| section.get(usize::try_from(vaddr.checked_sub(SECTION)?).ok()?..);
        Frames::parse(Placed { vaddr: HDR, bytes: hdr }, from)
    }

    #[test]
    fn an_address_is_found_in_its_frame_and_not_beside_it() {
        let (hdr, section) = tables(b"zR");
        let frames = parse(&hdr, &section).unwrap();
        let first = Frame { start: 0x500, end: 0x520, is_signal: false };
        assert_eq!(frames.covering(0x500), Some(first));
        assert_eq!(frames.covering(0x51f), Some(first));
        assert_eq!(frames.covering(0x520), None);
        assert_eq!(frames.covering(0x4ff), None);
        assert_eq!(frames.next_start(0x501), Some(0x540));
        assert_eq!(frames.next_start(0x541), None);
        let starts: Vec<_> = frames.descending_from(0x541).map(|frame| frame.start).collect();
        assert_eq!(starts, [0x540, 0x500]);
    }

    #[test]
    fn a_walk_finds_what_the_table_finds() {
        let (_, section) = tables(b"zR");
        let frames = walk(Placed { vaddr: SECTION, bytes: &section });
        assert_eq!(
            frames.iter().map(|frame| (frame.start, frame.end)).collect::<Vec<_>>(),
            [(0x500, 0x520), (0x540, 0x550)]
        );
    }

    #[test]
    fn a_signal_frame_is_told_by_its_augmentation() {
        let (hdr, section) = tables(b"zRS");
        assert!(parse(&hdr, &section).unwrap().covering(0x500).unwrap().is_signal);
        let (hdr, section) = tables(b"zX");
        assert_eq!(parse(&hdr, &section).unwrap().covering(0x500), None);
    }

    #[test]
    fn cut_off_tables_find_less_and_never_fail() {
        let (hdr, section) = tables(b"zR");
        for len in 0..hdr.len() {
            let found = parse(&hdr[..len], &section).and_then(|frames| frames.covering(0x540));
            assert_eq!(found, None, "{len}");
        }
        for len in 0..section.len() - 5 {
            let found = parse(&hdr, &section[..len]).and_then(|frames| frames.covering(0x540));
            assert_eq!(found, None, "{len}");
        }
    }

    proptest! {
        #[test]
        fn a_search_ends_at_the_same_place_wherever_it_starts(
            mut items in proptest::collection::vec(any::<u8>(), 0..80),
            limits in proptest::collection::vec(any::<u8>(), 1..9),
            start in 0_usize..100,
        ) {
            items.sort_unstable();
            let near = Cell::new(start);
            for limit in limits {
                let found = partition_near(&items, &near, |item| *item < limit);
                prop_assert_eq!(found, items.partition_point(|item| *item < limit));
            }
        }

        #[test]
        fn damaged_tables_never_break_a_lookup(at in 0_usize..100, value in any::<u8>(), vaddr in 0x4f0_u64..0x560) {
            let (mut hdr, mut section) = tables(b"zRS");
            if let Some(byte) = hdr.get_mut(at) { *byte = value; }
            if let Some(byte) = section.get_mut(at) { *byte = value; }
            if let Some(frames) = parse(&hdr, &section) {
                prop_assert!(frames.covering(vaddr).is_none_or(|frame| frame.start <= vaddr && vaddr < frame.end));
            }
            let walked = walk(Placed { vaddr: SECTION, bytes: &section });
            prop_assert!(walked.iter().all(|frame| frame.start < frame.end));
        }

        #[test]
        fn random_bytes_never_break_a_walk(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let frames = walk(Placed { vaddr: SECTION, bytes: &bytes });
            prop_assert!(frames.iter().all(|frame| frame.start < frame.end));
        }
    }
}
