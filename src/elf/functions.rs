//! Where functions start and end, as far as a file says so: the only places decoding may be trusted to start.
//!
//! Sources in order of trust: frame description entries, Go's program counter table, function symbols. The first
//! two are looked up by binary search, so that start-up pays for the hits it looks up and not for the size of
//! the file; symbols are sorted once, at the first question that the others leave open. Addresses are link-time.

use alloc::vec::Vec;
use core::cell::{Cell, OnceCell};

use super::eh_frame::{self, Frames, Placed, partition_near};
use super::gopclntab::PcTable;
use super::image::Image;

/// What says that a function is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// A frame description entry; its end is exact.
    Frame,
    /// An entry of a signal frame: the code starts at `start` or one byte later.
    SignalFrame,
    /// Go's table; the padding after a function counts as part of it.
    GoTable,
    /// A symbol with a size; its end is exact.
    Symbol,
    /// A symbol without one; it reaches to the next.
    UnsizedSymbol,
}

/// A known function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// The link-time address of its first instruction.
    pub start: u64,
    /// The link-time address past its last byte; above `start`.
    pub end: u64,
    /// What says so.
    pub source: Source,
}

impl Function {
    /// Whether `vaddr` lies inside.
    #[must_use]
    pub const fn contains(&self, vaddr: u64) -> bool {
        self.start <= vaddr && vaddr < self.end
    }

    /// Whether alignment padding after the code counts as part of it.
    #[must_use]
    pub const fn holds_padding(&self) -> bool {
        matches!(self.source, Source::GoTable | Source::UnsizedSymbol)
    }
}

/// The extent of an executable section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The link-time address of its first byte.
    pub start: u64,
    /// The link-time address past its last byte.
    pub end: u64,
}

/// What a file knows about its functions.
#[derive(Debug, Default)]
pub struct Functions<'f> {
    frames: Option<Frames<'f>>,
    go: Option<PcTable<'f>>,
    entry: Option<u64>,
    sections: Vec<Extent>,
    symbol_tables: Vec<&'f [u8]>,
    bare_frames: Option<Placed<'f>>,
    /// Where symbols are of interest; everywhere if that is not said.
    part: Option<Extent>,
    listed: OnceCell<Vec<Function>>,
    /// Where the last search in `listed` ended.
    near: Cell<usize>,
}

const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_DYNSYM: u32 = 11;
const SHF_EXECINSTR: u64 = 4;
const STT_FUNC: u8 = 2;
const STT_GNU_IFUNC: u8 = 10;
/// The size of an `Elf64_Sym` in bytes.
const SYMBOL_LEN: usize = 24;
/// How many nested or overlapping extents a lookup looks at.
const NESTING_MAX: usize = 8;

impl<'f> Functions<'f> {
    /// Knows nothing: for code that comes from no file.
    #[must_use]
    pub fn unknown() -> Self {
        Self::default()
    }

    /// What `image` says. Reads headers only.
    #[must_use]
    pub fn of(image: &Image<'f>) -> Self {
        let mut found = Self { frames: frames_of(image), ..Self::default() };
        found.entry = Some(image.entry()).filter(|entry| *entry != 0);
        for section in image.sections() {
            let placed = Placed { vaddr: section.vaddr, bytes: section.bytes };
            match (section.kind, section.name) {
                (SHT_SYMTAB | SHT_DYNSYM, _) => found.symbol_tables.push(section.bytes),
                (_, b".gopclntab" | b".data.rel.ro.gopclntab") => found.go = PcTable::parse(placed),
                (_, b".eh_frame") if found.frames.is_none() => found.bare_frames = Some(placed),
                (SHT_PROGBITS, _) if section.flags & SHF_EXECINSTR != 0 => {
                    let end = section.vaddr.saturating_add(section.size);
                    found.sections.push(Extent { start: section.vaddr, end });
                }
                _ => {}
            }
        }
        found
    }

    /// Leaves out symbols that have nothing to do with the code from `start` to `end`: there may be very many.
    #[must_use]
    pub fn around(self, start: u64, end: u64) -> Self {
        Self { part: Some(Extent { start, end }), ..self }
    }

    /// Whether there is no source at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_none()
            && self.go.is_none()
            && self.entry.is_none()
            && self.sections.is_empty()
            && self.symbol_tables.is_empty()
            && self.bare_frames.is_none()
    }

    /// The function that holds `vaddr`, from the most trusted source that knows one.
    #[must_use]
    pub fn covering(&self, vaddr: u64) -> Option<Function> {
        let frame = self.frames.as_ref().and_then(|frames| frames.covering(vaddr)).map(Function::from);
        frame
            .or_else(|| self.go.and_then(|table| table.covering(vaddr)).map(Function::from))
            .or_else(|| self.listed_before(vaddr).find(|function| function.contains(vaddr)))
    }

    /// The function with the highest start below `vaddr`, among those that start at or after `floor`.
    #[must_use]
    pub fn last_before(&self, vaddr: u64, floor: u64) -> Option<Function> {
        let limit = vaddr.saturating_sub(1);
        let frame =
            self.frames.as_ref().and_then(|frames| frames.descending_from(vaddr).next()).map(Function::from);
        let go = self.go.and_then(|table| table.descending_from(vaddr).next()).map(Function::from);
        let listed = self.listed_before(limit).next();
        let known = [frame, go, listed].into_iter().flatten();
        // On a tie the first, and so the most trusted, stays.
        known
            .filter(|function| function.start >= floor)
            .reduce(|best, other| if other.start > best.start { other } else { best })
    }

    /// Where the first known function that starts at or after `vaddr` starts.
    #[must_use]
    pub fn next_start(&self, vaddr: u64) -> Option<u64> {
        let listed = self.listed();
        let index = partition_near(listed, &self.near, |function| function.start < vaddr);
        let candidates = [
            self.frames.as_ref().and_then(|frames| frames.next_start(vaddr)),
            self.go.and_then(|table| table.next_start(vaddr)),
            listed.get(index).map(|function| function.start),
        ];
        candidates.into_iter().flatten().min()
    }

    /// The executable section that holds `vaddr`.
    #[must_use]
    pub fn section(&self, vaddr: u64) -> Option<Extent> {
        self.sections.iter().copied().find(|section| section.start <= vaddr && vaddr < section.end)
    }

    /// Whether the file names its executable sections.
    #[must_use]
    pub const fn has_sections(&self) -> bool {
        !self.sections.is_empty()
    }

    /// The link-time address of the entry point.
    #[must_use]
    pub const fn entry(&self) -> Option<u64> {
        self.entry
    }

    /// The listed functions that start at or before `vaddr`, nearest first, a few at most.
    fn listed_before(&self, vaddr: u64) -> impl Iterator<Item = Function> + '_ {
        let listed = self.listed();
        let after = partition_near(listed, &self.near, |function| function.start <= vaddr);
        listed.iter().take(after).rev().take(NESTING_MAX).copied()
    }

    /// What cannot be looked up in place, sorted by start.
    fn listed(&self) -> &[Function] {
        self.listed.get_or_init(|| {
            // All at once: growing would copy it, and leave behind every size that it has been.
            let symbols = self.symbol_tables.iter().map(|table| table.len() / SYMBOL_LEN).sum();
            let mut listed = Vec::with_capacity(symbols);
            for table in &self.symbol_tables {
                listed.extend(
                    table
                        .as_chunks::<SYMBOL_LEN>()
                        .0
                        .iter()
                        .filter_map(function_symbol)
                        .filter(|symbol| self.is_near(symbol)),
                );
            }
            if let Some(section) = self.bare_frames {
                listed.extend(eh_frame::walk(section).into_iter().map(Function::from));
            }
            // One number, because two would be compared with branches that nothing foretells.
            let key =
                |function: &Function| u128::from(function.start) << 64 | u128::from(u64::MAX - function.end);
            listed.sort_unstable_by_key(key);
            self.bound_unsized(&mut listed);
            listed.dedup_by_key(|function| function.start);
            listed
        })
    }

    /// Whether a symbol is of interest, or tells how far those that are reach.
    fn is_near(&self, symbol: &Function) -> bool {
        const MARGIN: u64 = 1 << 20;
        self.part.is_none_or(|part| {
            part.start.saturating_sub(MARGIN) < symbol.end && symbol.start < part.end.saturating_add(MARGIN)
        })
    }

    /// Ends each symbol without a size where the next starts, or its section ends.
    fn bound_unsized(&self, listed: &mut Vec<Function>) {
        let mut next_start = u64::MAX;
        for function in listed.iter_mut().rev() {
            let start = function.start;
            if function.source == Source::UnsizedSymbol {
                let section_end = self.section(start).map_or(start, |section| section.end);
                function.end = section_end.min(next_start);
            }
            next_start = start;
        }
        listed.retain(|function| function.start < function.end);
    }
}

impl From<eh_frame::Frame> for Function {
    fn from(frame: eh_frame::Frame) -> Self {
        let source = if frame.is_signal { Source::SignalFrame } else { Source::Frame };
        Self { start: frame.start, end: frame.end, source }
    }
}

impl From<(u64, u64)> for Function {
    fn from((start, end): (u64, u64)) -> Self {
        Self { start, end, source: Source::GoTable }
    }
}

fn frames_of<'f>(image: &Image<'f>) -> Option<Frames<'f>> {
    let hdr = image.program_headers().find(|header| header.kind == PT_GNU_EH_FRAME)?;
    let bytes = image.bytes_at(hdr.vaddr, hdr.file_size)?;
    Frames::parse(Placed { vaddr: hdr.vaddr, bytes }, |vaddr| {
        let mut segments = image.segments().iter();
        let holder = segments.rfind(|it| it.vaddr <= vaddr && vaddr - it.vaddr < it.file_size)?;
        image.bytes_at(vaddr, holder.file_size - (vaddr - holder.vaddr))
    })
}

/// A symbol that names code defined in this file (gABI, "Symbol Table").
fn function_symbol(symbol: &[u8; SYMBOL_LEN]) -> Option<Function> {
    let [_, _, _, _, info, _, index_low, index_high, rest @ ..] = *symbol;
    let (words, _) = rest.as_chunks::<8>();
    let [start, len] = *words else { return None };
    let (start, len) = (u64::from_le_bytes(start), u64::from_le_bytes(len));
    let is_code = matches!(info & 0xf, STT_FUNC | STT_GNU_IFUNC);
    let is_defined = [index_low, index_high] != [0, 0] && start != 0;
    let source = if len == 0 { Source::UnsizedSymbol } else { Source::Symbol };
    (is_code && is_defined).then_some(Function { start, end: start.checked_add(len)?, source })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    impl<'f> Functions<'f> {
        /// What a file with one executable section and one symbol table says.
        pub(crate) fn of_symbols(table: &'f [u8], section: Extent, entry: Option<u64>) -> Self {
            let (symbol_tables, sections) = (std::vec![table], std::vec![section]);
            Self { symbol_tables, sections, entry, ..Self::default() }
        }
    }

    /// The bytes of an `Elf64_Sym`.
    pub(crate) fn symbol(info: u8, section: u16, start: u64, len: u64) -> Vec<u8> {
        let mut bytes = std::vec![0, 0, 0, 0, info, 0];
        bytes.extend_from_slice(&section.to_le_bytes());
        bytes.extend_from_slice(&start.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes
    }

    fn knowing(table: &[u8]) -> Functions<'_> {
        Functions::of_symbols(table, Extent { start: 0x1000, end: 0x1100 }, None)
    }

    #[test]
    fn only_defined_function_symbols_count() {
        let table = [
            symbol(0x12, 1, 0x1010, 0x10),
            symbol(0x11, 1, 0x1020, 0x10),
            symbol(0x12, 0, 0x1030, 0x10),
            symbol(0x1a, 1, 0x1040, 0x10),
        ]
        .concat();
        let functions = knowing(&table);
        assert_eq!(functions.covering(0x101f).map(|it| (it.start, it.end)), Some((0x1010, 0x1020)));
        assert_eq!(functions.covering(0x1020), None);
        assert_eq!(functions.covering(0x1030), None);
        assert_eq!(functions.covering(0x1040).map(|it| it.source), Some(Source::Symbol));
        assert_eq!(functions.next_start(0x1011), Some(0x1040));
        assert_eq!(functions.last_before(0x1040, 0).map(|it| it.start), Some(0x1010));
    }

    #[test]
    fn a_symbol_without_a_size_reaches_to_the_next_or_to_the_end_of_its_section() {
        let table =
            [symbol(0x12, 1, 0x1080, 0), symbol(0x12, 1, 0x1020, 0), symbol(0x12, 1, 0x3000, 0)].concat();
        let functions = knowing(&table);
        assert_eq!(functions.covering(0x1050).map(|it| (it.start, it.end)), Some((0x1020, 0x1080)));
        assert_eq!(functions.covering(0x10ff).map(|it| (it.start, it.end)), Some((0x1080, 0x1100)));
        assert_eq!(functions.covering(0x3000), None);
    }

    #[test]
    fn of_two_symbols_at_one_place_the_longer_counts() {
        let table = [symbol(0x12, 1, 0x1010, 4), symbol(0x12, 1, 0x1010, 0x20)].concat();
        assert_eq!(knowing(&table).covering(0x1028).map(|it| it.end), Some(0x1030));
    }

    #[test]
    fn symbols_far_from_the_code_in_question_are_left_out() {
        let table = [symbol(0x12, 1, 0x1010, 4), symbol(0x12, 1, 0x1000_0000, 4)].concat();
        let around = |start: u64| knowing(&table).around(start, start + 0x1000);
        assert_eq!(around(0x1000).next_start(0), Some(0x1010));
        assert_eq!(around(0x1000).next_start(0x1011), None);
        assert_eq!(around(0x1000_0000).last_before(u64::MAX, 0).map(|it| it.start), Some(0x1000_0000));
        assert_eq!(around(0x1000_0000).covering(0x1010), None);
    }

    #[test]
    fn an_absurd_size_is_no_function() {
        let table = symbol(0x12, 1, 0x1010, u64::MAX);
        assert_eq!(knowing(&table).covering(0x1010), None);
    }

    #[test]
    fn nothing_is_known_of_code_without_a_file() {
        let functions = Functions::unknown();
        assert_eq!(functions.covering(0), None);
        assert_eq!(functions.next_start(0), None);
        assert_eq!(functions.last_before(u64::MAX, 0), None);
        assert_eq!(functions.section(0), None);
    }
}
