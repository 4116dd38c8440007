//! Finds dead padding: filler that no control flow reaches.
//!
//! Filler is `nop` and `int3`; zeros do not count, because between functions they may as well be a table. It is dead
//! if the instruction before it never falls through, no direct branch nearby leads into it, and nothing known starts
//! in it. Between functions it ends where a known one or the section's end is; where the next function is unknown, at
//! the next multiple of 16 at most, since a function may begin with a `nop` of its own.
//!
//! Inside a function a jump table could lead to it. It never leads to what an assembler inserts to align the *next*
//! label, so there a run counts only if it ends exactly at the next multiple of 8, is made of `nop`s in the assembler's own
//! encodings, and all of the function decodes. It is the second choice.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::addr::GuestAddr;
use crate::elf::functions::{Function, Functions, Source};
use crate::find::site::Text;
use crate::plan::ranges::Ranges;
use crate::x86::decode::Decoder;
use crate::x86::encode::{INT3, JMP_REL8_LEN};
use crate::x86::insn::{Insn, Kind};

/// The largest stretch that is decoded for its padding, in bytes.
const STRETCH_MAX: u64 = 1 << 16;
/// How many instructions are decoded for each byte of a text at most; compiled code needs less than one.
const DECODES_MAX: usize = 4;
/// What compilers align functions to, at least.
const ALIGNMENT: u64 = 16;

/// Looks for dead padding, in each stretch once. Addresses are link-time ones, but for those of the text.
pub(super) struct Filler<'a, 'f> {
    text: Text<'a>,
    bias: u64,
    functions: &'a Functions<'f>,
    /// Ends of functions that control is known not to run past, ascending.
    dead_ends: &'a [GuestAddr],
    decoder: Decoder<'a>,
    /// What was looked at: functions by their start, gaps by theirs.
    explored: BTreeSet<(Stretch, u64)>,
    /// How many more instructions are decoded: functions that overlap may be many times as long as the text.
    decodes_left: usize,
}

/// What padding is looked for in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stretch {
    Function,
    Gap,
    Inside,
}

impl<'a, 'f> Filler<'a, 'f> {
    pub(super) const fn new(
        text: Text<'a>,
        bias: u64,
        functions: &'a Functions<'f>,
        dead_ends: &'a [GuestAddr],
    ) -> Self {
        let decoder = Decoder::new(text.bytes, text.at);
        let decodes_left = text.bytes.len().saturating_mul(DECODES_MAX);
        Self { text, bias, functions, dead_ends, decoder, explored: BTreeSet::new(), decodes_left }
    }

    /// Goes down to the next function and adds the padding behind it to `found`; `None` if there is none in reach.
    pub(super) fn find_next(&mut self, descent: &mut Descent, found: &mut Ranges) -> Option<()> {
        let function = descent.next(self.functions)?;
        let gap_end = self.gap_end(function);
        if gap_end < descent.reach.lowest {
            return None;
        }
        if self.explored.insert((Stretch::Function, function.start)) {
            self.explore_behind(function, gap_end, found);
        }
        Some(())
    }

    /// Adds all padding between functions in reach to `found`.
    pub(super) fn find_between(&mut self, mut descent: Descent, found: &mut Ranges) {
        while self.find_next(&mut descent, found).is_some() {}
    }

    /// Adds all padding inside the functions in reach to `found`.
    pub(super) fn find_inside(&mut self, mut descent: Descent, found: &mut Ranges) {
        let reach = descent.reach;
        while let Some(function) = descent.next(self.functions)
            && function.end >= reach.lowest
        {
            let is_exact = matches!(function.source, Source::Frame | Source::Symbol);
            let is_small = function.end - function.start <= STRETCH_MAX;
            if is_exact
                && is_small
                && self.may_hold_filler(function, reach)
                && self.explored.insert((Stretch::Inside, function.start))
            {
                add(found, self.aligning_runs(function));
            }
        }
    }

    /// Whether bytes of `function` in reach read as the end of an assembler's filler: a look at a few places that
    /// mostly saves decoding all of it.
    fn may_hold_filler(&self, function: Function, reach: Reach) -> bool {
        const STEP: u64 = 8;
        const WINDOW: u64 = 8;
        let first = reach.lowest.max(function.start.saturating_add(1)).next_multiple_of(STEP);
        let last = reach.highest.saturating_add(ALIGNMENT).min(function.end - 1);
        (first..=last).step_by(STEP as usize).any(|end| {
            let before = self.text.slice(self.addr(end.wrapping_sub(WINDOW)), WINDOW as usize);
            before.is_none_or(ends_in_nop)
        })
    }

    /// The runs of filler that align a label inside `function`; none unless all of it decodes.
    fn aligning_runs(&mut self, function: Function) -> Vec<(u64, u64)> {
        let (mut runs, mut starts, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        let mut at = function.start;
        let mut is_dead = false;
        while at < function.end {
            let filled = self.aligned_end(at).filter(|filled| is_dead && *filled < function.end);
            if let Some(filled) = filled {
                runs.push((at, filled));
                at = filled;
                is_dead = false;
                continue;
            }
            let Some(insn) = self.decode(at) else { return Vec::new() };
            starts.push(at);
            targets
                .extend(insn.target().map(|target| self.vaddr(target)).filter(|to| function.contains(*to)));
            is_dead = !insn.falls_through();
            at += u64::from(insn.len);
        }
        let is_sound =
            at == function.end && targets.iter().all(|target| starts.binary_search(target).is_ok());
        if is_sound { runs } else { Vec::new() }
    }

    /// Where the assembler's filler at `at` ends, if that is at the next multiple of 8 or 16.
    fn aligned_end(&mut self, at: u64) -> Option<u64> {
        let mut end = at;
        while end - at < ALIGNMENT
            && let Some(insn) = self.decode(end)
            && let Some(bytes) = self.text.slice(self.addr(end), usize::from(insn.len))
            && is_assembler_nop(bytes)
        {
            end += u64::from(insn.len);
        }
        [8, ALIGNMENT].into_iter().any(|align| at.next_multiple_of(align) == end && at < end).then_some(end)
    }

    /// Where the first known thing behind `function` starts.
    fn gap_end(&self, function: Function) -> u64 {
        let section = self.functions.section(function.start).map_or(function.end, |section| section.end);
        let next = self.functions.next_start(function.end.max(function.start + 1));
        next.unwrap_or(u64::MAX).min(section).max(function.end)
    }

    fn explore_behind(&mut self, function: Function, gap_end: u64, found: &mut Ranges) {
        let is_known = function.source != Source::SignalFrame && function.end - function.start <= STRETCH_MAX;
        let overlaps = self.functions.covering(function.end).is_some_and(|other| other.start < function.end);
        if !is_known || overlaps || gap_end - function.end > STRETCH_MAX {
            return;
        }
        if function.holds_padding() {
            let mut runs = self.dead_runs(function.start, function.end);
            runs.retain(|(_, end)| *end == function.end);
            add(found, runs);
        } else if !self.explored.contains(&(Stretch::Gap, function.end)) {
            // All of the function must be decoded to know how it ends: only where that is worth it.
            let runs = self.dead_runs(function.end, gap_end);
            if !runs.is_empty() && self.ends_for_good(function) {
                self.explored.insert((Stretch::Gap, function.end));
                add(found, runs);
            }
        }
    }

    /// Whether control never runs past the end of `function`.
    fn ends_for_good(&mut self, function: Function) -> bool {
        if self.dead_ends.binary_search(&self.addr(function.end)).is_ok() {
            return true;
        }
        let mut at = function.start;
        let mut ends = false;
        while at < function.end {
            let Some(insn) = self.decode(at) else { return false };
            ends = insn.ends_function();
            at += u64::from(insn.len);
        }
        at == function.end && ends
    }

    /// The runs of dead filler in a stretch of instructions that nothing falls into and behind which something
    /// known starts.
    fn dead_runs(&mut self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut targets = Vec::new();
        let mut at = start;
        let mut is_dead = true;
        while at < end {
            if is_dead && self.is_filler(at) {
                let filled = self.filler_end(at, end);
                let aligned = at.checked_next_multiple_of(ALIGNMENT).filter(|aligned| *aligned <= filled);
                let run_end = if filled == end { Some(end) } else { aligned };
                runs.extend(run_end.filter(|run_end| at < *run_end).map(|run_end| (at, run_end)));
                (at, is_dead) = (filled, false);
                continue;
            }
            // Data somewhere: then all but the filler right at the start may be data too.
            let Some(insn) = self.decode(at) else {
                runs.retain(|(run, _)| *run == start);
                break;
            };
            targets.extend(insn.target().map(|target| self.vaddr(target)));
            is_dead = !insn.falls_through();
            at += u64::from(insn.len);
        }
        targets.sort_unstable();
        let first_from = |start: u64| targets.get(targets.partition_point(|target| *target < start));
        runs.retain(|(start, end)| first_from(*start).is_none_or(|target| target >= end));
        runs
    }

    fn is_filler(&mut self, at: u64) -> bool {
        let is_int3 = self.text.slice(self.addr(at), 1) == Some(&[INT3]);
        is_int3 || self.decode(at).is_some_and(|insn| insn.kind == Kind::Nop)
    }

    /// How far filler reaches from `start`, `limit` at most.
    fn filler_end(&mut self, start: u64, limit: u64) -> u64 {
        let mut at = start;
        while at < limit && self.is_filler(at) {
            let len = self.decode(at).map_or(1, |insn| u64::from(insn.len));
            if at + len > limit {
                break;
            }
            at += len;
        }
        at
    }

    fn decode(&mut self, at: u64) -> Option<Insn> {
        self.decodes_left = self.decodes_left.checked_sub(1)?;
        self.decoder.decode(self.text.offset(self.addr(at))?).ok()
    }

    pub(super) fn addr(&self, vaddr: u64) -> GuestAddr {
        GuestAddr(vaddr).wrapping_add(self.bias)
    }

    pub(super) fn vaddr(&self, at: GuestAddr) -> u64 {
        at.wrapping_sub(self.bias).0
    }
}

fn add(found: &mut Ranges, runs: Vec<(u64, u64)>) {
    runs.into_iter().for_each(|(start, end)| found.insert(start, end));
}

/// Whether an assembler fills with these bytes (binutils gas/config/tc-i386.c, alt_patt; LLVM X86AsmBackend).
fn is_assembler_nop(bytes: &[u8]) -> bool {
    let prefixes = bytes.iter().take_while(|byte| matches!(**byte, 0x66 | 0x2e)).count();
    matches!(
        bytes.get(prefixes..),
        Some(
            [0x90]
                | [0x0f, 0x1f, 0x00 | 0xc0]
                | [0x0f, 0x1f, 0x40, 0]
                | [0x0f, 0x1f, 0x44, 0, 0]
                | [0x0f, 0x1f, 0x80, 0, 0, 0, 0]
                | [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]
        )
    )
}

/// Whether the last of `bytes` may be those of [`is_assembler_nop`].
const fn ends_in_nop(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [.., 0x90]
            | [.., 0x0f, 0x1f, 0x00 | 0xc0]
            | [.., 0x0f, 0x1f, 0x40, 0]
            | [.., 0x0f, 0x1f, 0x44, 0, 0]
            | [.., 0x0f, 0x1f, 0x80, 0, 0, 0, 0]
            | [.., 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]
    )
}

/// Where a short jump can go.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    pub(super) lowest: u64,
    pub(super) highest: u64,
}

impl Reach {
    pub(super) const NOTHING: Self = Self { lowest: 1, highest: 0 };

    pub(super) fn of(from: u64) -> Option<Self> {
        let end = from.checked_add(JMP_REL8_LEN as u64)?;
        Some(Self { lowest: end.checked_sub(128)?, highest: end.checked_add(127)? })
    }

    /// What can be reached from it with `jumps` more.
    pub(super) const fn widened(self, jumps: usize) -> Self {
        let more = (128 + JMP_REL8_LEN) as u64 * jumps as u64;
        Self { lowest: self.lowest.saturating_sub(more), highest: self.highest.saturating_add(more) }
    }

    /// All that lies in one, in the other, or between them.
    pub(super) fn hull(self, other: Self) -> Self {
        Self { lowest: self.lowest.min(other.lowest), highest: self.highest.max(other.highest) }
    }

    pub(super) const fn contains(self, at: u64) -> bool {
        self.lowest <= at && at <= self.highest
    }

    /// Whether all of `other` lies in it.
    pub(super) const fn holds(self, other: Self) -> bool {
        self.lowest <= other.lowest && other.highest <= self.highest
    }

    /// Whether something lies in both.
    pub(super) const fn meets(self, other: Self) -> bool {
        self.lowest <= other.highest && other.lowest <= self.highest
    }

    /// What lies in it above `other`, and below.
    pub(super) fn without(self, other: Self) -> [Self; 2] {
        let lowest = self.lowest.max(other.highest.saturating_add(1));
        let highest = self.highest.min(other.lowest.saturating_sub(1));
        [Self { lowest, ..self }, Self { highest, ..self }]
    }

    /// The highest place in reach for `len` bytes of a run.
    pub(super) fn place(self, (start, end): (u64, u64), len: usize) -> Option<u64> {
        let place = end.checked_sub(len as u64)?.min(self.highest);
        (place >= start && place >= self.lowest).then_some(place)
    }
}

/// The way down through the functions that may hold padding in reach, or have it behind them.
pub(super) struct Descent {
    reach: Reach,
    /// Where the last one started.
    below: u64,
    /// How many more may start below all that is reached.
    nested: usize,
}

impl Descent {
    /// How many functions that overlap each other are looked at: a file may have any number of them.
    const NESTED_MAX: usize = 8;

    /// Passes over functions that start in `swept`, where all padding is known.
    pub(super) fn into(reach: Reach, swept: Option<Reach>) -> Self {
        let swept = swept.filter(|swept| swept.meets(reach) && reach.highest <= swept.highest);
        let below = swept.map_or(reach.highest, |swept| swept.lowest.min(reach.highest));
        Self { reach, below, nested: Self::NESTED_MAX }
    }

    fn next(&mut self, functions: &Functions<'_>) -> Option<Function> {
        let floor = self.reach.lowest.saturating_sub(2 * STRETCH_MAX);
        let function = functions.last_before(self.below, floor)?;
        self.below = function.start;
        if function.start < self.reach.lowest {
            self.nested = self.nested.checked_sub(1)?;
        }
        Some(function)
    }
}
