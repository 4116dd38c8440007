//! Programs that restrict their own calls. Zone: call.
//!
//! From then on the loader makes no call of its own that the restriction does not let through
//! ([`crate::sys::seccomp`]). What it will still need is made ready before: spare slots, and the output of the tools,
//! since a file can perhaps no longer be opened.
//!
//! A filter may look at where a call comes from, and let a site of the program's do what others may not. Seen from
//! the kernel all calls come from the gate. So where such a filter would answer differently to a site and to
//! the gate, that site gets its own instruction back: its calls are no longer seen, and the program works.

use crate::abi::bpf::{self, AddressTests};
use crate::abi::call::{Call, Outcome};
use crate::abi::process::{
    PR_SET_SECCOMP, SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_TSYNC, SECCOMP_MODE_FILTER,
    SECCOMP_MODE_STRICT, SECCOMP_SET_MODE_FILTER, SECCOMP_SET_MODE_STRICT,
};
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::plan::{stub, undo};
use crate::runtime::backstop::{guest_sud, sud};
use crate::runtime::code::{patcher, traps};
use crate::runtime::gate::pending::Returns;
use crate::runtime::gate::step::Step;
use crate::runtime::gate::{altstacks, gate_asm, slots, stubs};
use crate::runtime::memory::code_writer;
use crate::runtime::session;
use crate::runtime::session::followed::{Followed, Returned};
use crate::runtime::session::last_words;
use crate::runtime::signal::{fatal, handlers};
use crate::sys::guest_memory;
use crate::sys::seccomp::{self as filters, Filter};
use crate::sys::signal::AllBlocked;

/// What a call restricts the program to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Restriction {
    /// Strict mode.
    Strict,
    /// A filter: the address of its `struct sock_fprog`.
    Filter(u64),
}

impl Restriction {
    fn of(call: &Call) -> Option<Self> {
        let [operation, mode, program, ..] = call.args;
        match (call.nr, operation as u32, mode) {
            (sysno::SECCOMP, SECCOMP_SET_MODE_STRICT, _)
            | (sysno::PRCTL, PR_SET_SECCOMP, SECCOMP_MODE_STRICT) => Some(Self::Strict),
            (sysno::SECCOMP, SECCOMP_SET_MODE_FILTER, _)
            | (sysno::PRCTL, PR_SET_SECCOMP, SECCOMP_MODE_FILTER) => Some(Self::Filter(program)),
            _ => None,
        }
    }
}

/// `prctl`: two of its operations restrict the thread's calls, and one has them dispatched.
pub(crate) fn begin_prctl(followed: Followed<'_>) -> Step {
    if guest_sud::is_set_by(followed.call) { guest_sud::set(followed) } else { begin(followed) }
}

/// Before `seccomp` and `prctl`.
pub(crate) fn begin(followed: Followed<'_>) -> Step {
    let Followed { call, session, .. } = followed;
    let Some(restriction) = Restriction::of(call) else { return Step::Pass };
    slots::make_ready();
    let _ = handlers::make_ready(); // without entries, handlers are the kernel's as they are
    last_words::keep_output(session);
    let filter = match restriction {
        Restriction::Filter(at) => stage(GuestAddr(at)),
        Restriction::Strict => None,
    };
    if let Some(filter) = filter {
        leave_native(filter);
        do_without_traps(filter);
    }
    let lets_through = |call: &Call| filter.is_some_and(|filter| lets_through(filter, call));
    fatal::suspend_unless(lets_through);
    altstacks::suspend_unless(lets_through);
    filters::close();
    Step::PassThenExit(Returns::Once)
}

/// After `seccomp` and `prctl`.
pub(crate) fn finish(returned: Returned<'_>) -> Outcome {
    if let Some(restriction) = Restriction::of(returned.call()) {
        decide(restriction, is_installed(returned.call(), returned.outcome));
    }
    returned.outcome
}

/// The program's restriction of its calls is in force, or is not after all.
fn decide(restriction: Restriction, is_installed: bool) {
    if is_installed {
        match restriction {
            Restriction::Strict => filters::add_strict(),
            Restriction::Filter(_) => filters::add_staged(),
        }
    }
    filters::open();
    fatal::decide(is_installed);
    altstacks::decide(is_installed);
    if let Some(session) = session::get()
        && !session.output.is_needed_open()
    {
        session.output.let_go();
    }
}

fn is_installed(call: &Call, outcome: Outcome) -> bool {
    // With SECCOMP_FILTER_FLAG_TSYNC alone it answers with the id of a thread that could not be synchronised: nothing is
    // installed then (man 2 seccomp).
    let flags = call.args[1] & (SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_NEW_LISTENER);
    let is_refused = call.nr == sysno::SECCOMP && flags == SECCOMP_FILTER_FLAG_TSYNC && outcome.0 != 0;
    outcome.errno().is_none() && !is_refused
}

/// Remembers the filter of the `struct sock_fprog` at `at`; `None` if it can't be read, or is too long.
fn stage(at: GuestAddr) -> Option<Filter> {
    // A 16-bit count and, 8 bytes on, a pointer (include/uapi/linux/filter.h).
    let mut header = [0_u64; 2];
    let len = match read_words(at, &mut header) {
        Some(()) => usize::from(header[0] as u16),
        None => usize::MAX, // no room for so many
    };
    filters::stage(len, |index, into| read_words(GuestAddr(header[1]).wrapping_add(index as u64 * 8), into))
}

fn read_words(at: GuestAddr, into: &mut [u64]) -> Option<()> {
    let mut bytes = [0_u8; 512];
    let bytes = bytes.get_mut(..size_of_val(into))?;
    let len = guest_memory::read_memory(at, bytes).ok()?;
    let (words, _) = bytes.get(..len)?.as_chunks();
    into.iter_mut().zip(words).for_each(|(to, word)| *to = u64::from_ne_bytes(*word));
    (words.len() == into.len()).then_some(())
}

/// Gives sites that `filter` treats differently from the gate their own instruction back.
fn leave_native(filter: Filter) {
    let instruction = |at: usize| filter.instruction(at);
    let tests = AddressTests::of(instruction);
    if tests.is_empty() {
        return;
    }
    sud::meet_address_filter();
    let Some(_blocked) = AllBlocked::new() else { return };
    let patcher = patcher::lock();
    // What was found out last: sites of one kind stand together.
    let mut last: Option<(GuestAddr, bool)> = None;
    for (index, fields) in patcher.stubs.active() {
        let (site, gate) = (fields.back, stubs::in_stub(index, stub::RETURN));
        let differs = match last {
            _ if !tests.tell_apart(instruction, site.0, gate.0) => false,
            Some((known, differs)) if !tests.tell_apart(instruction, site.0, known.0) => differs,
            _ => bpf::answers_differ(instruction, site.0, gate.0),
        };
        last = Some((site, differs));
        if differs && let Some((at, bytes)) = undo::original(&fields) {
            give_back(at, &bytes);
        }
    }
}

/// A trap ends with a call that the program itself may never make: where `filter` does not let it through, the sites that
/// trap get their own instruction back.
fn do_without_traps(filter: Filter) {
    if !lets_through(filter, &Call { nr: sysno::RT_SIGRETURN, args: [0; 6] }) {
        sud::give_way();
        for site in traps::sites() {
            let fields = traps::entry_of(site).and_then(|entry| stubs::fields(stubs::index_of(entry)));
            if let Some(fields) = fields {
                give_back(site, &fields.instruction.bytes());
            }
        }
    }
}

/// Whether `filter` lets a call of the gate's through.
fn lets_through(filter: Filter, call: &Call) -> bool {
    bpf::allows(|at| filter.instruction(at), call, gate_asm::stubs())
}

/// Puts the program's own bytes where a patch begins, if there is one: the memory may have become another's.
fn give_back(at: GuestAddr, bytes: &[u8]) {
    let mut there = [0; 2];
    if guest_memory::read_memory(at, &mut there) == Ok(there.len()) && undo::may_begin(there) {
        // Where even that is forbidden by now the filter will say what it says to the gate.
        let _ = code_writer::write_live(at, bytes);
    }
}
