//! What to write where: a plan for all sites of one text, as data.
//!
//! A [`Plan`] can be printed, compared, checked and thrown away; nothing is written here. Its promise: **every
//! original instruction boundary stays executable with its original meaning**, whether as a jump, as a trap or as
//! untouched bytes. Dead padding alone loses its meaning. Sites are planned from the last to the first, and each
//! plan locks the bytes that it writes or relies on, so that no patch breaks another's assumptions.

pub(crate) mod check;
mod draft;
mod filler;
pub(crate) mod live;
mod padding;
pub mod planner;
mod ranges;
pub(crate) mod relay;
mod request;
pub(crate) mod space;
pub(crate) mod stub;
mod tactic;
pub(crate) mod undo;

use crate::addr::{AddrRange, GuestAddr};
use crate::elf::functions::Functions;
use crate::find::site::{Site, Span, Text};
use crate::plan::space::Space;
use crate::plan::stub::Again;
use alloc::vec::Vec;
use core::fmt;

/// The bytes of one edit or trampoline.
pub(crate) type Bytes = heapless::Vec<u8, 16>;

/// The bytes that one near trampoline takes of its area.
pub(crate) const TRAMPOLINE_LEN: u64 = 16;

/// The gate, as far as a plan has to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gate {
    /// All of its stubs.
    pub stubs: AddrRange,
    /// The policy table: one byte a number.
    pub policy: GuestAddr,
    /// Where hooked calls go.
    pub hooked: GuestAddr,
}

/// What a plan is made from.
pub struct Input<'a, 'f> {
    /// The code as it is before any patch.
    pub text: Text<'a>,
    /// Its proved sites, in ascending order.
    pub sites: &'a [Site],
    /// The run-time address minus the link-time address of the same byte, modulo 2^64.
    pub bias: u64,
    /// What is known of its functions, for padding.
    pub functions: &'a Functions<'f>,
    /// Ends of functions that control is known not to run past, ascending; one that is missing
    /// costs time.
    pub dead_ends: &'a [GuestAddr],
    /// The gate.
    pub gate: Gate,
    /// The stub of each site, in the order of [`Self::sites`], each a multiple of [`stub::LEN`]; a site without one is refused.
    pub stubs: &'a [Option<GuestAddr>],
    /// Where trampolines may lie that every site reaches, for a text that does not reach the gate.
    pub near: Option<AddrRange>,
    /// Free addresses for punned jumps; what the plan uses is taken out.
    pub space: &'a mut Space,
}

/// Bytes to be written over others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edit {
    /// The address of the first byte.
    pub at: GuestAddr,
    /// What must stand there before.
    pub old: Bytes,
    /// What stands there after; as long as `old`.
    pub new: Bytes,
}

/// How a site leads to its stub: by the number of the row that the tactics' table has for it ([`tactic`]).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tactic(u8);

/// A stub to be written into the gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stub {
    /// Its address.
    pub at: GuestAddr,
    /// Its bytes.
    pub bytes: [u8; stub::LEN],
    /// The site it stands in for.
    pub site: Site,
    /// How that site leads to it.
    pub tactic: Tactic,
    /// The original instruction that runs in the stub, if the tactic evicted one.
    pub evicted: Option<Evicted>,
}

impl Stub {
    /// Where it is entered after the site's own instructions.
    #[must_use]
    pub const fn plain_entry(&self) -> GuestAddr {
        self.at.wrapping_add(stub::PLAIN_ENTRY as u64)
    }
}

/// An instruction that moved into a stub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Evicted {
    /// Where it stood, and its length there and in the stub.
    pub span: Span,
    /// Whether it may run again when the call is made again: it loads `rax` with a constant, or from a register
    /// that calls leave alone.
    pub again: Again,
}

/// Code outside the gate that leads to a stub.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trampoline {
    /// Its address.
    pub at: GuestAddr,
    /// Its bytes.
    pub bytes: Bytes,
}

/// An address where a trap instruction stands for a system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrapSite {
    /// The address that the trap reports.
    pub at: GuestAddr,
    /// Where the program goes on instead.
    pub entry: GuestAddr,
}

/// A site that stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Its address.
    pub at: GuestAddr,
    /// Why.
    pub reason: RefusalReason,
}

/// Why a site stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalReason {
    /// No system call instruction stands there.
    NotThere,
    /// The patch of another site needs its bytes.
    Taken,
    /// The gate has no stub left.
    NoStub,
    /// The gate's own parts are too far from each other.
    GateTooWide,
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotThere => "no system call instruction stands there",
            Self::Taken => "the patch of another site needs its bytes",
            Self::NoStub => "the gate has no stub left",
            Self::GateTooWide => "the gate's parts are too far from each other",
        })
    }
}

/// All that is to be written for the sites of one text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Changes to the text, in ascending order, none overlapping.
    pub edits: Vec<Edit>,
    /// Stubs, one for each site that is not refused.
    pub stubs: Vec<Stub>,
    /// Trampolines near the text and where puns point.
    pub trampolines: Vec<Trampoline>,
    /// Where traps stand, in ascending order.
    pub traps: Vec<TrapSite>,
    /// Sites that stay as they are.
    pub refusals: Vec<Refusal>,
}

/// How many bytes of near trampolines a text needs at most, or zero if all of it reaches all of the gate.
#[must_use]
pub(crate) fn near_len(text: &Text<'_>, sites: usize, gate: &Gate) -> u64 {
    let AddrRange { start, end } = gate.stubs;
    let text_end = text.addr(text.bytes.len());
    let reaches = end.rel32_from(text.at).is_some() && start.rel32_from(text_end).is_some();
    if reaches { 0 } else { (sites as u64).saturating_mul(TRAMPOLINE_LEN) }
}
