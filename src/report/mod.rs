//! What was intercepted in a process, how, and what was not: as records, and from them as text or JSON.
//!
//! The shell fills a [`Ledger`] while it patches and gathers [`Facts`] when the process ends; nothing is concluded
//! here that is not in them. Both forms say the same.

mod hits;
pub(crate) mod json;
pub(crate) mod ledger;
pub(crate) mod left;
pub(crate) mod text;

use core::fmt;

use crate::abi::errno::Errno;
use crate::addr::GuestAddr;
use crate::options::Intercept;
use ledger::Ledger;

/// What is true of a process as a whole.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// Its id.
    pub process: u32,
    /// The path of its program.
    pub program: &'a [u8],
    /// How far interception goes.
    pub intercept: Intercept,
    /// Whether the program was to end rather than have a call pass unseen.
    pub is_strict: bool,
    /// How the net under the gate stands.
    pub net: Net<'a>,
    /// What the net has caught.
    pub caught: Caught,
    /// Requests for memory that is writable and executable at once.
    pub writable: u64,
    /// Executable mappings of pages that others have too.
    pub shared: u64,
    /// Bytes in them that read as system call instructions; they stay as they are.
    pub shared_hits: u64,
    /// io_uring's rings that it has made.
    pub rings: u64,
    /// Whether it was told that there is no io_uring.
    pub refuses_io_uring: bool,
    /// Calls whose results the tools did not hear of.
    pub missed_results: u64,
    /// Stubs that have been somebody's, and how many there are.
    pub stubs: (u64, u64),
    /// Stretches of trampolines.
    pub trampolines: u64,
    /// Its mappings, the loader's among them; `None` where the kernel does not say.
    pub mappings: Option<u64>,
}

/// How the kernel's reports of calls from elsewhere than the gate stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Net<'a> {
    /// There are never any.
    Off,
    /// Nothing has called for them.
    NotNeeded,
    /// They come.
    Armed {
        /// Why.
        why: &'a str,
        /// Where the cause lies, if it has a place.
        place: Option<GuestAddr>,
        /// Whether they have come since before the program's first instruction.
        since_start: bool,
    },
    /// They are called for, and can't be had.
    Unavailable(Errno),
}

/// Counts of the net.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Caught {
    /// Calls that were reported.
    pub calls: u64,
    /// Of those, calls that were made without a stub, unseen by the tools.
    pub bare: u64,
    /// Sites that were patched after that.
    pub patched: u64,
    /// Threads and processes that it does not hold.
    pub unarmed: u64,
}

/// A report, to be printed in either form.
#[derive(Clone, Copy)]
pub(crate) struct Report<'a> {
    /// The process.
    pub facts: Facts<'a>,
    /// Its code.
    pub ledger: &'a Ledger,
    /// Programs of the tree that ran natively, as a JSON array; `None` where that is not this process's to say.
    pub natives: Option<&'a dyn fmt::Display>,
}

/// The name of a mode, as it is typed.
const fn mode(intercept: Intercept) -> &'static str {
    match intercept {
        Intercept::Fast => "fast",
        Intercept::Auto => "auto",
        Intercept::Exhaustive => "exhaustive",
    }
}

/// Bytes as the inside of a JSON string (RFC 8259, 7), which also keeps them on one line: quotes, backslashes and control
/// characters are escaped, and what is no UTF-8 shows as U+FFFD.
#[derive(Clone, Copy)]
pub(crate) struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for piece in chunk.valid().split_inclusive(needs_escape) {
                let plain = piece.trim_end_matches(needs_escape);
                f.write_str(plain)?;
                for letter in piece.chars().skip(plain.chars().count()) {
                    match letter {
                        '"' | '\\' => write!(f, "\\{letter}")?,
                        '\n' => f.write_str("\\n")?,
                        _ => write!(f, "\\u{:04x}", u32::from(letter))?,
                    }
                }
            }
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

const fn needs_escape(letter: char) -> bool {
    letter.is_ascii_control() || matches!(letter, '"' | '\\' | '\u{80}'..='\u{9f}')
}

#[cfg(test)]
mod tests {
    use super::ledger::Presence;
    use super::ledger::tests::{file, ledger, memory, unproved};
    use super::left::Left;
    use super::*;
    use crate::find::site::Reason;
    use crate::plan::RefusalReason;
    use crate::plan::Tactic;
    use std::boxed::Box;
    use std::string::ToString;

    /// Facts of which no two are the same.
    pub(super) fn facts() -> Facts<'static> {
        Facts {
            process: 42,
            program: b"/bin/a \"b\"\n",
            intercept: Intercept::Exhaustive,
            is_strict: true,
            net: Net::Armed { why: "it was asked for", place: None, since_start: true },
            caught: Caught { calls: 8, bare: 0, patched: 2, unarmed: 0 },
            writable: 1,
            shared: 2,
            shared_hits: 3,
            rings: 0,
            refuses_io_uring: false,
            missed_results: 4,
            stubs: (5, 65_535),
            trampolines: 6,
            mappings: Some(77),
        }
    }

    /// A library with something of everything, one that is gone, and generated code.
    pub(super) fn busy() -> Box<Ledger> {
        let ledger = ledger();
        let library = ledger.look(&file(b"/lib/libc.so", 0x2000, 0x1_0000, 0x1_0000)).unwrap();
        for (stub, key) in [(1, "short_jump"), (2, "trap"), (3, "short_jump")] {
            ledger.serve(library, stub, Tactic::of_key(key));
        }
        ledger.leave(library, 0x2000, Left::Restorer);
        ledger.leave(library, 0x2010, Left::Refused(RefusalReason::NoStub));
        ledger.leave(library, 0x2020, unproved(Reason::Overlap, false));
        ledger.leave(library, 0x2030, unproved(Reason::NoAnchor, true));
        let gone = ledger.look(&file(b"/lib/gone.so", 0, 0x3_0000, 0x1000)).unwrap();
        let generated = ledger.look(&memory(0x7000, 0x1000)).unwrap();
        ledger.serve(generated, 4, Tactic::of_key("eviction"));
        ledger.leave(generated, 0x7000, Left::Unwritten);
        ledger.modules()[library].set_presence(Presence::Mapped);
        ledger.modules()[gone].set_presence(Presence::Gone);
        ledger
    }

    #[test]
    fn no_byte_breaks_a_string_or_a_line() {
        let name = b"/a \"b\"\\\n\x1b[1m\x7f\xc2\x85\xff\xc3\xa9";
        let shown = "/a \\\"b\\\"\\\\\\n\\u001b[1m\\u007f\\u0085\u{fffd}\u{e9}";
        assert_eq!(Escaped(name).to_string(), shown);
        assert_eq!(Escaped(b"").to_string(), "");
    }
}
