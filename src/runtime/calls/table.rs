//! What the runtime does about calls: one row for each, or for several that are alike. Zone: call.
//!
//! A row names the calls, when they are hooked, the handler that runs before one of them is made, and the one that runs when it
//! has returned, if there is one. Handlers run after the tools have seen the call, and before they see how it went. A call
//! without a row is the tools' business alone.

use crate::abi::call::Outcome;
use crate::abi::sysno;
use crate::hook::interest::NUMBERS;
use crate::runtime::calls::{
    exec, exit_filter, io_uring, mappings, moving, output, protection, seccomp, split, thread_end,
};
use crate::runtime::gate::policy;
use crate::runtime::gate::step::Step;
use crate::runtime::session::followed::{Followed, Returned};
use crate::runtime::session::last_words;
use crate::runtime::signal::{action, reserved_mask};

/// When calls are hooked for the runtime's own sake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum When {
    /// Always.
    Always,
    /// When they have returned and their filter says so; not where the loader is the program's interpreter, for the kernel's
    /// links lead to the program itself then.
    Filtered,
    /// Once there is a reason, which whoever knows it says to the policy.
    Asked,
}

/// What runs before a call.
type Before = fn(Followed<'_>) -> Step;
/// What runs after one; returns what the program is to see.
type After = fn(Returned<'_>) -> Outcome;

struct Row {
    calls: &'static [u32],
    when: When,
    before: Before,
    after: Option<After>,
}

const fn before(calls: &'static [u32], when: When, before: Before) -> Row {
    Row { calls, when, before, after: None }
}

const fn around(calls: &'static [u32], when: When, before: Before, after: After) -> Row {
    Row { calls, when, before, after: Some(after) }
}

#[rustfmt::skip] // one row, one line
static ROWS: &[Row] = {
    use When::{Always, Asked, Filtered};
    &[
        around(&[sysno::MMAP], Always, mappings::map, mappings::note_mapping),
        before(&[sysno::MUNMAP], Always, mappings::unmap),
        before(&[sysno::BRK], Always, mappings::set_break),
        around(&[sysno::SHMAT], Always, mappings::attach, mappings::note_attached),
        before(&[sysno::PERSONALITY], Always, mappings::set_personality),
        before(&[sysno::MPROTECT, sysno::PKEY_MPROTECT], Always, protection::protect),
        before(&[sysno::MADVISE], Always, protection::advise),
        before(&[sysno::MREMAP], Always, moving::remap),
        around(&[sysno::FORK, sysno::VFORK, sysno::CLONE, sysno::CLONE3], Always, split::split, split::finish_split),
        before(&[sysno::EXIT], Always, thread_end::exit_thread),
        before(&[sysno::EXIT_GROUP], Always, thread_end::exit_process),
        before(&[sysno::ARCH_PRCTL], Always, thread_end::set_base),
        before(&[sysno::REBOOT], Always, thread_end::end_machine),
        before(&[sysno::EXECVE, sysno::EXECVEAT], Always, exec::replace),
        around(&[sysno::SECCOMP], Always, seccomp::begin, seccomp::finish),
        around(&[sysno::PRCTL], Always, seccomp::begin_prctl, seccomp::finish),
        before(&[sysno::RT_SIGACTION], Always, action::set_action),
        around(&[sysno::SIGALTSTACK], Always, action::ask_altstack, action::note_altstack),
        before(&[sysno::RT_SIGRETURN], Asked, action::leave_handler),
        around(&[sysno::RT_SIGPROCMASK], Asked, reserved_mask::begin, reserved_mask::finish),
        before(&[sysno::RT_SIGPENDING], Asked, reserved_mask::pending),
        before(&[sysno::RT_SIGTIMEDWAIT], Asked, reserved_mask::wait),
        before(&[sysno::IO_URING_SETUP], Always, io_uring::begin),
        before(&[sysno::IO_URING_ENTER, sysno::IO_URING_REGISTER], Asked, io_uring::begin),
        before(&[sysno::CLOSE], Asked, output::close),
        before(&last_words::LEAVING, Asked, output::leave),
        around(&exit_filter::CALLS, Filtered, exit_filter::begin, exit_filter::finish),
    ]
};

/// By number: the row that has it, plus one; 0 if none has.
#[expect(clippy::indexing_slicing, reason = "an index out of bounds is an error at compile time")]
static ROW_OF: [u8; NUMBERS as usize] = {
    let mut row_of = [0; NUMBERS as usize];
    let mut rows = ROWS;
    while let [head @ .., row] = rows {
        let mut calls = row.calls;
        while let [nr, rest @ ..] = calls {
            assert!(row_of[*nr as usize] == 0, "a call has two rows");
            row_of[*nr as usize] = rows.len() as u8;
            calls = rest;
        }
        rows = head;
    }
    row_of
};

fn row_of(nr: u32) -> Option<&'static Row> {
    ROWS.get(usize::from(*ROW_OF.get(nr as usize)?).checked_sub(1)?)
}

/// Makes the gate hook what is followed always, and filter what has a filter if there `are_filters`.
pub(crate) fn set_up(are_filters: bool) {
    for row in ROWS {
        match row.when {
            When::Always => row.calls.iter().copied().for_each(policy::hook),
            When::Filtered if are_filters => row.calls.iter().copied().for_each(policy::filter),
            When::Filtered | When::Asked => {}
        }
    }
}

/// Has the call's handler decide how it goes on.
///
/// Apart from its caller, whose stack frame would else be as large as that of the largest handler.
#[inline(never)]
pub(crate) fn begin(followed: Followed<'_>) -> Step {
    match row_of(followed.call.nr) {
        Some(row) => (row.before)(followed),
        None => Step::Pass,
    }
}

/// Whether a call has a handler.
#[must_use]
pub(crate) fn follows(nr: u32) -> bool {
    row_of(nr).is_some()
}

/// Has the call's handler look at how it went. Returns what the program is to see.
#[inline(never)]
pub(crate) fn finish(returned: Returned<'_>) -> Outcome {
    match row_of(returned.call().nr).and_then(|row| row.after) {
        Some(after) => after(returned),
        None => returned.outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_leads_to_the_row_that_names_it() {
        for row in ROWS {
            for nr in row.calls {
                let found = row_of(*nr).unwrap();
                assert!(core::ptr::eq(found, row), "{nr}");
            }
        }
        assert!(!follows(sysno::GETPID) && !follows(NUMBERS) && !follows(u32::MAX));
    }
}
