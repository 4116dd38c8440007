//! Which bytes of a stretch of code are instructions: recursive decoding from trusted starts.
//!
//! Decoding goes on where control goes on: to the next instruction and to the targets of direct branches. What
//! stands behind an unconditional transfer is not code until something shows that it is, because hand-written
//! assembly keeps its tables there. One undecodable byte on a path, or two readings of one byte, spoil the whole
//! stretch: then some assumption was wrong, and nothing shows which.
//! What else may be code are [`Islands`].

use alloc::vec::Vec;

use crate::addr::GuestAddr;
use crate::find::island::{Island, Islands, Landing, Target};
use crate::find::site::{Span, Text};
use crate::x86::decode::{DecodeError, Decoder};
use crate::x86::gpr::{Gpr, Value};
use crate::x86::insn::{Insn, Kind};

/// The longest stretch that is traced, in bytes.
pub(super) const STRETCH_MAX: usize = 1 << 20;

/// A byte that no traced instruction holds.
const UNSEEN: u8 = 0;
/// A byte that belongs to an instruction that starts before it.
const INNER: u8 = 0x10;
/// The bits that hold the length of the instruction that starts here.
const LEN: u8 = 0x0f;

/// No system call of x86-64 has a number this high (arch/x86/entry/syscalls/syscall_64.tbl).
pub(super) const NUMBER_END: u64 = 1024;

/// Where the number of a system call comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Number {
    /// A constant that is a system call's number.
    Constant,
    /// Something else sets all of `rax`.
    Set,
    /// Straight-line code does not say.
    Unknown,
}

/// What spoiled a stretch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spoiled {
    /// A path met bytes that are no instruction.
    Undecodable,
    /// Two paths read the same bytes differently.
    Overlap,
}

/// A traced stretch. One value serves many stretches in turn and keeps its memory.
pub(super) struct Trace<'a> {
    decoder: Decoder<'a>,
    text: Text<'a>,
    start: usize,
    marks: Vec<u8>,
    pending: Vec<usize>,
    /// Where calls return to that are not followed yet.
    returns: Vec<usize>,
    spoiled: Option<Spoiled>,
    islands: Option<Islands>,
}

impl<'a> Trace<'a> {
    /// A trace of nothing yet in `text`.
    #[must_use]
    pub(super) fn new(text: Text<'a>) -> Self {
        Self {
            decoder: Decoder::new(text.bytes, text.at),
            text,
            start: 0,
            marks: Vec::new(),
            pending: Vec::new(),
            returns: Vec::new(),
            spoiled: None,
            islands: None,
        }
    }

    /// Begins anew with the bytes from offset `start` to `end` of the text, at most [`STRETCH_MAX`].
    pub(super) fn reset(&mut self, start: usize, end: usize) {
        self.start = start;
        self.marks.clear();
        self.marks.resize(end.saturating_sub(start).min(STRETCH_MAX), UNSEEN);
        self.pending.clear();
        self.returns.clear();
        self.spoiled = None;
        self.islands = None;
    }

    /// Follows all paths from the instructions at the offsets `anchors`.
    ///
    /// What stands behind a call comes last, because a callee may never return and what follows then be anything: if
    /// that spoils the stretch, only what is reached without it counts.
    pub(super) fn follow(&mut self, anchors: &[usize]) {
        self.pending.extend_from_slice(anchors);
        self.follow_pending();
        if self.spoiled.is_some() || self.returns.is_empty() {
            return;
        }
        let certain = self.marks.clone();
        while let Some(next) = self.returns.pop() {
            self.pending.push(next);
            self.follow_pending();
        }
        if self.spoiled.take().is_some() {
            self.marks = certain;
        }
    }

    fn follow_pending(&mut self) {
        while let Some(next) = self.pending.pop() {
            self.follow_path(next);
        }
    }

    /// What spoiled the stretch, if anything did.
    #[must_use]
    pub(super) const fn spoiled(&self) -> Option<Spoiled> {
        self.spoiled
    }

    /// Whether a traced instruction starts at offset `at`.
    #[must_use]
    pub(super) fn is_instruction(&self, at: usize) -> bool {
        self.mark(at).is_some_and(|mark| mark & LEN != 0)
    }

    /// The traced instruction that holds the byte at offset `at` and starts before it.
    #[must_use]
    pub(super) fn holder(&self, at: usize) -> Option<Span> {
        (1..15).find_map(|back| {
            let from = at.checked_sub(back)?;
            let len = self.mark(from)? & LEN;
            (usize::from(len) > back).then(|| Span { at: self.text.addr(from), len })
        })
    }

    /// The one traced instruction that ends where the one at offset `at` starts.
    #[must_use]
    pub(super) fn predecessor(&self, at: usize) -> Option<Span> {
        let mut ending = (1..=15_u8).filter_map(|len| {
            let from = at.checked_sub(usize::from(len))?;
            (self.mark(from)? & LEN == len).then(|| Span { at: self.text.addr(from), len })
        });
        let only = ending.next()?;
        ending.next().is_none().then_some(only)
    }

    /// Reads the instruction at offset `at`, traced or not.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub(super) fn decode(&mut self, at: usize) -> Result<Insn, DecodeError> {
        self.decoder.decode(at)
    }

    /// How the straight-line code before the instruction at offset `at` sets `rax`.
    pub(super) fn number(&mut self, at: usize) -> Number {
        let mut next = at;
        let mut register = Gpr::RAX;
        while let Some(span) = self.predecessor(next)
            && let Some(from) = self.text.offset(span.at)
            && let Ok(insn) = self.decoder.decode(from)
            && insn.straight
        {
            match self.decoder.value(register) {
                Some(Value::Constant(constant)) if constant < NUMBER_END => return Number::Constant,
                Some(Value::Copy(source)) => register = source,
                Some(Value::Constant(_) | Value::Set) => return Number::Set,
                Some(Value::Altered) => return Number::Unknown,
                None => {}
            }
            next = from;
        }
        if register == Gpr::RAX { Number::Unknown } else { Number::Set }
    }

    /// Takes the runs of unseen bytes that prove to be islands for code.
    pub(super) fn adopt_islands(&mut self) {
        if self.islands.is_some() {
            return;
        }
        let mut candidates = Vec::new();
        let mut next = 0;
        while let Some(skipped) =
            self.marks.get(next..).and_then(|it| it.iter().position(|mark| *mark == UNSEEN))
        {
            let start = next + skipped;
            let run = self.marks.iter().skip(start).take_while(|mark| **mark == UNSEEN).count();
            next = start + run;
            candidates.extend(Island::decode(&mut self.decoder, self.start + start, self.start + next));
        }
        let islands = Islands::of(candidates, |target| self.landing(target));
        for (at, insn) in islands.insns() {
            self.set_marks(*at, insn.len);
        }
        self.islands = Some(islands);
    }

    /// Whether the byte at offset `at` belongs to an island.
    #[must_use]
    pub(super) fn is_island(&self, at: usize) -> bool {
        self.islands.as_ref().is_some_and(|islands| islands.span(at).is_some())
    }

    /// Whether the block of an island that holds offset `at` leads, by branches or by running on, to traced code or
    /// to what `is_function` knows, at once or through other blocks.
    #[must_use]
    pub(super) fn is_tied(&mut self, at: usize, is_function: impl Fn(GuestAddr) -> bool) -> bool {
        let Some(mut islands) = self.islands.take() else { return false };
        let is_tied = islands.is_tied(at, is_function, |target| {
            let to = match target {
                Target::Address(target) => self.text.offset(target)?,
                Target::Offset(to) => to,
            };
            Some(to).filter(|to| self.is_instruction(*to))
        });
        self.islands = Some(islands);
        is_tied
    }

    /// Where the block of an island that holds offset `at` starts.
    #[must_use]
    pub(super) fn block_start(&self, at: usize) -> Option<usize> {
        self.islands.as_ref()?.block_start(at)
    }

    /// Where the branches of islands lead, as offsets into the text.
    pub(super) fn island_targets(&self) -> impl Iterator<Item = usize> + '_ {
        let insns = self.islands.iter().flat_map(Islands::insns);
        insns.filter_map(|(_, insn)| self.text.offset(insn.target()?))
    }

    fn landing(&self, target: GuestAddr) -> Landing {
        match self.text.offset(target) {
            Some(to) if self.mark(to).is_some() && !self.is_instruction(to) => Landing::Untraced(to),
            Some(to) if to < self.text.bytes.len() => Landing::Sound,
            _ => Landing::Nowhere,
        }
    }

    fn follow_path(&mut self, mut at: usize) {
        while let Some(mark) = self.mark(at)
            && mark & LEN == 0
        {
            let Ok(insn) = self.decoder.decode(at) else {
                self.spoiled = self.spoiled.or(Some(Spoiled::Undecodable));
                return;
            };
            self.set_marks(at, insn.len);
            if let Some(to) = insn.target().and_then(|target| self.text.offset(target))
                && self.mark(to).is_some()
            {
                self.pending.push(to);
            }
            at += usize::from(insn.len);
            match insn.kind {
                Kind::Call { .. } => return self.returns.push(at),
                _ if insn.falls_through() => {}
                _ => return,
            }
        }
    }

    fn mark(&self, at: usize) -> Option<u8> {
        self.marks.get(at.checked_sub(self.start)?).copied()
    }

    fn set_marks(&mut self, at: usize, len: u8) {
        let Some(marks) = at.checked_sub(self.start).and_then(|relative| self.marks.get_mut(relative..))
        else {
            return;
        };
        let Some((first, rest)) = marks.split_first_mut() else { return };
        let mut overlaps = *first & INNER != 0;
        *first |= len;
        let rest_len = usize::from(len).saturating_sub(1).min(rest.len());
        let rest = rest.get_mut(..rest_len).unwrap_or_default();
        let mut seen = UNSEEN;
        for mark in rest.iter_mut() {
            seen |= *mark;
            *mark |= INNER;
        }
        if seen & LEN != 0 {
            // Old C libraries jump past a `lock` prefix: same end, both readings sound.
            let ends_elsewhere = |(index, mark): (u8, &u8)| *mark & LEN != 0 && index + (*mark & LEN) != len;
            overlaps |= (1..len).zip(rest.iter()).any(ends_elsewhere);
        }
        if overlaps && !self.shares_end(at, len) {
            self.spoiled = self.spoiled.or(Some(Spoiled::Overlap));
        }
    }

    /// Whether the instruction that holds the start of this one ends where this one does.
    fn shares_end(&self, at: usize, len: u8) -> bool {
        let end = self.text.addr(at).wrapping_add(u64::from(len));
        self.holder(at).is_some_and(|outer| outer.at.wrapping_add(u64::from(outer.len)) == end)
    }
}
