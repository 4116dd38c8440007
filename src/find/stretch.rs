//! Judges the hits of one stretch of code: a known function, or a gap between two.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::addr::GuestAddr;
use crate::elf::functions::{Functions, Source};
use crate::find::anchor;
use crate::find::site::{Hit, RESTORER, Reason, Site, Text, Unproved, Verdict};
use crate::find::trace::{Number, STRETCH_MAX, Spoiled, Trace};

/// Zeros that are no instruction's: the longest has 15 bytes.
const ZEROS_MIN: usize = 16;

/// How often a stretch is judged at most: each time takes as long as the stretch is. No file that was looked at needs more
/// than three.
const JUDGED_MAX: u32 = 32;

/// A piece of the text that is judged as a whole: a known function, or a gap between two.
pub(super) struct Stretch {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Offsets where an instruction is known to start.
    pub(super) anchors: Vec<usize>,
    pub(super) hits: Vec<Hit>,
    /// How often it has been judged.
    judged: u32,
}

impl Stretch {
    pub(super) fn contains(&self, at: usize) -> bool {
        self.start <= at && at < self.end
    }

    fn may_be_judged(&self) -> bool {
        self.judged < JUDGED_MAX
    }

    /// Whether something that is new of it could prove more.
    pub(super) fn is_open(&self) -> bool {
        self.may_be_judged()
            && self
                .hits
                .iter()
                .any(|hit| matches!(hit.verdict, Verdict::Unproved(unproved) if unproved.is_plausible))
    }
}

/// Judges stretches, one after the other.
pub(super) struct Finder<'a, 'f> {
    pub(super) text: Text<'a>,
    bias: u64,
    pub(super) functions: &'a Functions<'f>,
    pub(super) trace: Trace<'a>,
    /// Where proved branches lead in gaps.
    pub(super) anchors: BTreeSet<usize>,
    pub(super) dead_ends: Vec<GuestAddr>,
}

impl<'a, 'f> Finder<'a, 'f> {
    pub(super) fn new(text: &Text<'a>, bias: u64, functions: &'a Functions<'f>) -> Self {
        let (trace, anchors, dead_ends) = (Trace::new(*text), BTreeSet::new(), Vec::new());
        Self { text: *text, bias, functions, trace, anchors, dead_ends }
    }

    /// Adds the hit at offset `at` to its stretch, which is the last or a new one.
    pub(super) fn assign(&mut self, at: usize, stretches: &mut Vec<Stretch>) {
        // Every hit is judged below; only what stays unproved is worth the look at its surroundings.
        let unproved = Unproved { reason: Reason::NoAnchor, is_plausible: false };
        let hit = Hit { at: self.text.addr(at), verdict: Verdict::Unproved(unproved) };
        match stretches.last_mut().filter(|last| last.contains(at)) {
            Some(last) => last.hits.push(hit),
            None => {
                let mut stretch = self.stretch(at);
                stretch.hits.push(hit);
                stretches.push(stretch);
            }
        }
    }

    /// The known function that holds offset `at`, or the gap that does.
    pub(super) fn stretch(&mut self, at: usize) -> Stretch {
        let vaddr = self.vaddr(at);
        let function = self.functions.covering(vaddr);
        let known = function
            .and_then(|function| Some((function, self.offset(function.start)?, self.offset(function.end)?)));
        if let Some((function, start, end)) = known {
            let anchors = match function.source {
                Source::SignalFrame => self.restorer(start).into_iter().collect(),
                _ => Vec::from([start]),
            };
            return Stretch { start, end, anchors, hits: Vec::new(), judged: 0 };
        }
        self.gap(at, vaddr)
    }

    /// What lies between the known functions on both sides of offset `at`.
    fn gap(&mut self, at: usize, vaddr: u64) -> Stretch {
        if self.functions.is_empty() {
            return self.between_zeros(at);
        }
        let section = self.functions.section(vaddr);
        let before = self.functions.last_before(vaddr, 0);
        let start = before.map(|function| function.end).max(section.map(|section| section.start));
        let start = start.and_then(|start| self.offset(start)).unwrap_or(0).min(at);
        let after = self.functions.next_start(vaddr);
        let end = after.into_iter().chain(section.map(|section| section.end)).min();
        let end = end.and_then(|end| self.offset(end)).unwrap_or(self.text.bytes.len()).max(at + 2);
        let entry = self.functions.entry().and_then(|entry| self.offset(entry));
        let anchors = entry.filter(|entry| start <= *entry && *entry < end).into_iter().collect();
        let gap = Stretch { start, end, anchors, hits: Vec::new(), judged: 0 };
        let before = before.and_then(|function| self.offset(function.start));
        before.and_then(|before| self.joined(before, &gap)).unwrap_or(gap)
    }

    /// In memory that no file tells of: what lies between runs of zeros on both sides of offset `at`. Pages are filled by
    /// whoever generates code, and what has not been reached yet is zero; an instruction may end in zeros of its own.
    fn between_zeros(&mut self, at: usize) -> Stretch {
        let (before, after) = self.text.bytes.split_at(at);
        let is_zeros = |window: &[u8]| window.iter().all(|byte| *byte == 0);
        let first = before.windows(ZEROS_MIN).rposition(is_zeros).unwrap_or(0);
        let start =
            before.iter().skip(first).position(|byte| *byte != 0).map_or(at, |skipped| first + skipped);
        let zeros = at + after.windows(ZEROS_MIN).position(is_zeros).unwrap_or(after.len());
        let mut end = start;
        while end < zeros {
            let Ok(insn) = self.trace.decode(end) else { break };
            end += usize::from(insn.len);
        }
        Stretch { start, end: end.max(zeros), anchors: Vec::new(), hits: Vec::new(), judged: 0 }
    }

    /// The gap with the known function that starts at offset `before`, if that runs on into it. Hand-written system calls
    /// end their unwind information between two instructions.
    fn joined(&mut self, before: usize, gap: &Stretch) -> Option<Stretch> {
        let function = Stretch {
            start: before,
            end: gap.start,
            anchors: Vec::from([before]),
            hits: Vec::new(),
            judged: 0,
        };
        self.trace_stretch(&function).ok()?;
        let last = self.text.offset(self.trace.predecessor(gap.start)?.at)?;
        // A function that ends with a call does so because the call does not return.
        let runs_on = self.trace.decode(last).is_ok_and(|insn| insn.straight);
        runs_on.then_some(Stretch { end: gap.end, ..function })
    }

    /// Where the code of a signal frame's entry starts: at its start, or one byte on.
    fn restorer(&self, start: usize) -> Option<usize> {
        [start, start + 1]
            .into_iter()
            .find(|at| self.text.bytes.get(*at..).is_some_and(|it| it.starts_with(&RESTORER)))
    }

    pub(super) fn vaddr(&self, offset: usize) -> u64 {
        self.text.addr(offset).wrapping_sub(self.bias).0
    }

    fn offset(&self, vaddr: u64) -> Option<usize> {
        self.text.offset(GuestAddr(vaddr).wrapping_add(self.bias))
    }

    /// Decides about the hits of one stretch; whether that gave it an anchor, and it may be judged again.
    pub(super) fn judge(&mut self, stretch: &mut Stretch) -> bool {
        let state = self.trace_stretch(stretch);
        let known = stretch.anchors.len();
        let is_first = stretch.judged == 0;
        stretch.judged += 1;
        for hit in &mut stretch.hits {
            let Verdict::Unproved(before) = hit.verdict else { continue };
            let Some(at) = self.text.offset(hit.at) else { continue };
            hit.verdict = match state.and_then(|()| self.verdict(at)) {
                Ok(verdict) => {
                    // What proves one call of a block proves all of the block, and where it leads.
                    stretch.anchors.extend(self.trace.block_start(at));
                    verdict
                }
                Err(reason) => {
                    let is_anchored = known > 0 || reason != Reason::Unreached;
                    let reason = if is_anchored { reason } else { Reason::NoAnchor };
                    let is_plausible = match is_first {
                        true => self.may_be_code(at) && anchor::is_plausible(&self.text, at),
                        false => before.is_plausible,
                    };
                    Verdict::Unproved(Unproved { reason, is_plausible })
                }
            };
        }
        stretch.anchors.len() > known && stretch.may_be_judged()
    }

    pub(super) fn trace_stretch(&mut self, stretch: &Stretch) -> Result<(), Reason> {
        if stretch.end - stretch.start > STRETCH_MAX {
            return Err(Reason::TooLarge);
        }
        self.trace.reset(stretch.start, stretch.end);
        self.trace.follow(&stretch.anchors);
        match self.trace.spoiled() {
            None => Ok(()),
            Some(Spoiled::Undecodable) => Err(Reason::Undecodable),
            Some(Spoiled::Overlap) => Err(Reason::Overlap),
        }
    }

    /// Notes whether control never runs past the end of the stretch that was traced last.
    pub(super) fn note_end(&mut self, stretch: &Stretch) {
        let last = self.trace.predecessor(stretch.end).and_then(|last| self.text.offset(last.at));
        if self.trace.spoiled().is_none()
            && let Some(last) = last
            && self.trace.decode(last).is_ok_and(|insn| insn.ends_function())
        {
            self.dead_ends.push(self.text.addr(stretch.end));
        }
    }

    /// What the trace says about a hit.
    fn verdict(&mut self, hit: usize) -> Result<Verdict, Reason> {
        if self.traced_verdict(hit)?.is_none() {
            self.trace.adopt_islands();
        }
        let verdict = self.traced_verdict(hit)?.ok_or(Reason::Unreached)?;
        if !self.trace.is_island(hit) {
            return Ok(verdict);
        }
        let is_tied = self.is_tied(hit);
        let Verdict::Site(site) = verdict else {
            return if is_tied { Ok(verdict) } else { Err(Reason::Unreached) };
        };
        let at = self.text.offset(site.at).ok_or(Reason::Unreached)?;
        let is_restorer = at.checked_sub(7).is_some_and(|start| self.restorer(start) == Some(start));
        let number = self.trace.number(at);
        let is_proved = number == Number::Constant || (number == Number::Set && is_tied) || is_restorer;
        if is_proved { Ok(verdict) } else { Err(Reason::Unreached) }
    }

    /// Whether the file does not say that offset `at` is data: linkers may put tables into executable segments, but
    /// not into executable sections.
    fn may_be_code(&self, at: usize) -> bool {
        let vaddr = self.vaddr(at);
        self.functions.section(vaddr).is_some() || !self.functions.has_sections()
    }

    /// Whether the block of an island that holds offset `at` is tied to traced code or to a function that is known from the
    /// file or from a proved branch.
    fn is_tied(&mut self, at: usize) -> bool {
        let Self { text, bias, functions, trace, anchors, .. } = self;
        trace.is_tied(at, |target| {
            let vaddr = target.wrapping_sub(*bias).0;
            functions.covering(vaddr).is_some_and(|function| function.start == vaddr)
                || text.offset(target).is_some_and(|to| anchors.contains(&to))
        })
    }

    fn traced_verdict(&mut self, hit: usize) -> Result<Option<Verdict>, Reason> {
        let holder = self.trace.holder(hit);
        if self.trace.is_instruction(hit) {
            return match holder {
                None => Ok(Some(Verdict::Site(self.site(hit, 2)))),
                Some(_) => Err(Reason::Overlap),
            };
        }
        let Some(span) = holder else {
            return Ok(None);
        };
        let from = self.text.offset(span.at).ok_or(Reason::Unreached)?;
        let is_prefixed_site = self.trace.decode(from).is_ok_and(|insn| insn.kind.is_call_of_kernel())
            && from + usize::from(span.len) == hit + 2;
        let inside = Verdict::Inside(span);
        Ok(Some(if is_prefixed_site { Verdict::Site(self.site(from, span.len)) } else { inside }))
    }

    fn site(&self, at: usize, len: u8) -> Site {
        Site { at: self.text.addr(at), len, predecessor: self.trace.predecessor(at) }
    }
}
