//! Which `0f 05` and `cd 80` byte pairs are system call instructions: proved, or left alone.
//!
//! A function known to the file is traced from its first instruction. A hit that the trace reaches on a
//! boundary is a site; one that lies inside a traced instruction is not. A hit that no path reaches may stand on an
//! island; it is a site only if the straight-line code before it loads `rax` with a constant that is a number, or sets `rax`
//! otherwise and its block is tied to proved code.
//!
//! Code that no source knows (hand-written assembly, static functions of a stripped library) is the gap between two known
//! functions. It is traced from the ELF entry, and from where proved branches lead: a byte search for `call` and `jmp`
//! into such a gap yields candidates, and each counts once the branch itself is proved.

use alloc::vec::Vec;

use crate::addr::GuestAddr;
use crate::elf::functions::Functions;
use crate::find::site::{Hit, RESTORER, Reason, Text, Unproved, Verdict};
use crate::find::stretch::Finder;
use crate::find::{anchor, number};
use crate::x86::scan::{SYSCALL, SyscallBytes};

/// What is found in a text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// Every byte pair that could be a system call instruction, in ascending order.
    pub hits: Vec<Hit>,
    /// Ends of functions with hits that control was seen not to run past, in ascending order.
    pub dead_ends: Vec<GuestAddr>,
}

/// Decides about every byte pair of `text` that could be a system call instruction.
///
/// `bias` is the run-time address minus the link-time address of the same byte, modulo 2^64.
#[must_use]
pub fn hits(text: &Text<'_>, bias: u64, functions: &Functions<'_>) -> Found {
    let mut offsets = SyscallBytes::of(text.bytes).peekable();
    if offsets.peek().is_none() {
        return Found::default();
    }
    // Generated code holds such bytes by chance, in as much code as fits: not worth decoding all of it.
    if functions.is_empty() && !offsets.clone().any(|offset| number::may_be_loaded(text, offset)) {
        let hits = offsets.map(|offset| {
            let is_plausible = anchor::is_plausible(text, offset);
            let verdict = Verdict::Unproved(Unproved { reason: Reason::NoAnchor, is_plausible });
            Hit { at: text.addr(offset), verdict }
        });
        return Found { hits: hits.collect(), dead_ends: Vec::new() };
    }
    judged_hits(text, bias, functions)
}

/// As [`hits`], by decoding what lies around them.
pub(super) fn judged_hits(text: &Text<'_>, bias: u64, functions: &Functions<'_>) -> Found {
    let mut finder = Finder::new(text, bias, functions);
    let mut stretches = Vec::new();
    for offset in SyscallBytes::of(text.bytes) {
        finder.assign(offset, &mut stretches);
    }
    for stretch in &mut stretches {
        while finder.judge(stretch) {}
        finder.note_end(stretch);
    }
    finder.follow_branches(&mut stretches);
    let mut hits: Vec<Hit> = stretches.into_iter().flat_map(|stretch| stretch.hits).collect();
    for hit in &mut hits {
        if matches!(hit.verdict, Verdict::Site(_)) && is_restorer(text, hit.at) {
            hit.verdict = Verdict::Restorer;
        }
    }
    Found { hits, dead_ends: finder.dead_ends }
}

/// Whether the system call at `at` ends the bytes by which unwinders recognise a signal frame.
fn is_restorer(text: &Text<'_>, at: GuestAddr) -> bool {
    let start = at.wrapping_sub((RESTORER.len() - SYSCALL.len()) as u64);
    text.slice(start, RESTORER.len()) == Some(&RESTORER[..])
}

#[cfg(test)]
mod tests;
