//! What a tactic is asked, and what it answers.

use crate::addr::GuestAddr;
use crate::find::site::{Site, Text};
use crate::plan::Evicted;
use crate::plan::stub::{self, Instruction};

/// A site that is to be led to its stub.
pub(super) struct Request<'a> {
    pub(super) site: &'a Site,
    pub(super) instruction: Instruction,
    /// Where its stub lies.
    pub(super) stub: GuestAddr,
}

impl Request<'_> {
    /// Where the stub is entered after the site's own instructions.
    pub(super) fn plain_entry(&self) -> GuestAddr {
        self.stub.wrapping_add(stub::PLAIN_ENTRY as u64)
    }

    /// Whether a jump can stand where the site does.
    pub(super) fn may_jump(&self, text: &Text<'_>) -> bool {
        /// The prefix that makes `jmp` differ between vendors.
        const OPERAND_SIZE: u8 = 0x66;
        let prefixes = usize::from(self.site.len).saturating_sub(2);
        let prefixes = text.slice(self.site.at, prefixes).unwrap_or_default();
        self.instruction == Instruction::Syscall && !prefixes.contains(&OPERAND_SIZE)
    }
}

/// What a tactic decided for one site.
#[derive(Default)]
pub(super) struct Decision {
    pub(super) evicted: Option<Evicted>,
    /// The evicted instruction as it reads in the stub.
    pub(super) moved: heapless::Vec<u8, { stub::PLAIN_ENTRY }>,
}

/// What reports call a tactic. Rows with one key are one tactic there.
pub(super) struct Label {
    /// In text, behind a number of sites.
    pub(super) name: &'static str,
    /// In JSON.
    pub(super) key: &'static str,
}
