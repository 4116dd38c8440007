//! The story of one call. Zone: call.
//!
//! A patched site jumps to its stub, the stub asks the policy. A call that nobody wants is made in the stub and goes
//! back; this file never hears of it. A hooked call lands here twice at most: [`loader_entered`] before the kernel, and, if
//! somebody wants to know how it went, [`loader_returned`] after it. Both run on a block, with the program's registers in it,
//! and end by saying where to go on:
//!
//! - *pass*: to the stub's own `syscall`, which goes back to the site;
//! - *pass and tell*: to a record slot, whose `syscall` is followed by the jump to `loader_returned`;
//! - *answer*: to the stub's way back, the result in rax;
//! - *filter*: to a dedicated slot, whose `syscall` is followed by a filter in assembly and, seldom, [`loader_filtered`].

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::hook::chain::Told;
use crate::hook::interest::Interest;
use crate::hook::tool::Verdict;
use crate::plan::stub;
use crate::runtime::backstop::{guest_sud, sud};
use crate::runtime::calls::{
    exec, exit_filter, io_uring, mappings, moving, proc_exe, protection, seccomp, split, thread_end,
};
use crate::runtime::gate::block::Block;
use crate::runtime::gate::pending::{Collected, Pending, Returns, Side};
use crate::runtime::gate::slots::{self, Slot};
use crate::runtime::gate::step::Step;
use crate::runtime::gate::{altstacks, gate_asm, layout, pool, stubs};
use crate::runtime::session::guest::Memory;
use crate::runtime::session::last_words::{self, LEAVING};
use crate::runtime::session::{self, Session};
use crate::runtime::signal::{action, reserved_mask};
use crate::runtime::tasks;
use crate::sys::seccomp::allows;
use core::sync::atomic::Ordering;

/// Runs the enter hooks of the call in `block`.
#[unsafe(no_mangle)]
extern "C" fn loader_entered(block: &mut Block) {
    settle(block);
    let was_joining = sud::join(block);
    if guest_sud::is_used() && guest_sud::takes(block) {
        return;
    }
    let mut call = block.call();
    let Some(session) = session::get() else {
        return go(block, Step::Pass, &call, Told::default());
    };
    let (verdict, told) = session.tools.enter(&mut call, &Memory);
    let step = match verdict {
        Verdict::Answer(outcome) => Step::Answer(outcome),
        Verdict::Pass | Verdict::PassAndTell if HANDLED.contains(call.nr) => special(block, &call, session),
        Verdict::Pass | Verdict::PassAndTell => Step::Pass,
    };
    if !was_joining {
        sud::join(block); // the call may have called for it
    }
    go(block, step, &call, told);
}

/// The calls of [`special`]: hooked whether or not a tool asks for them.
pub const SPECIAL: [u32; 24] = [
    sysno::MMAP,
    sysno::MREMAP,
    sysno::MADVISE,
    sysno::BRK,
    sysno::SHMAT,
    sysno::PERSONALITY,
    sysno::MPROTECT,
    sysno::PKEY_MPROTECT,
    sysno::FORK,
    sysno::VFORK,
    sysno::CLONE,
    sysno::CLONE3,
    sysno::EXIT,
    sysno::EXIT_GROUP,
    sysno::ARCH_PRCTL,
    sysno::RT_SIGACTION,
    sysno::SIGALTSTACK,
    sysno::SECCOMP,
    sysno::PRCTL,
    sysno::MUNMAP,
    sysno::EXECVE,
    sysno::EXECVEAT,
    sysno::REBOOT,
    sysno::IO_URING_SETUP,
];

/// The calls that [`special`] has an arm for: [`SPECIAL`], those that have a filter, and those that are hooked only when there is a reason.
const HANDLED: Interest = {
    let handled = exit_filter::CALLS
        .with(sysno::CLOSE)
        .with(sysno::RT_SIGPROCMASK)
        .with(sysno::RT_SIGPENDING)
        .with(sysno::RT_SIGTIMEDWAIT)
        .with(sysno::RT_SIGRETURN);
    let handled = with_all(handled, &SPECIAL);
    let handled = with_all(handled, &io_uring::CALLS);
    with_all(handled, &LEAVING)
};

const fn with_all(mut set: Interest, mut numbers: &[u32]) -> Interest {
    while let [nr, rest @ ..] = numbers {
        set = set.with(*nr);
        numbers = rest;
    }
    set
}

/// Calls that change what the loader keeps track of, or that would show the loader instead of the program.
///
/// Apart from [`loader_entered`], whose stack frame would else be as large as that of the largest of them.
#[inline(never)]
fn special(block: &mut Block, call: &Call, session: &Session) -> Step {
    match call.nr {
        sysno::MMAP => mappings::map(block, call),
        sysno::MPROTECT | sysno::PKEY_MPROTECT => protection::protect(block, call),
        sysno::MREMAP => moving::remap(block, call),
        sysno::MADVISE => protection::advise(block, call),
        sysno::BRK => mappings::set_break(block, call),
        sysno::SHMAT => mappings::attach(call),
        sysno::PERSONALITY => mappings::set_personality(call),
        sysno::FORK | sysno::VFORK | sysno::CLONE | sysno::CLONE3 => split::split(block, call),
        sysno::RT_SIGRETURN => Step::Leave,
        sysno::EXIT => thread_end::exit_thread(block, session),
        sysno::EXIT_GROUP => thread_end::exit_process(session),
        sysno::ARCH_PRCTL => thread_end::set_base(call),
        sysno::PRCTL if guest_sud::is_set_by(call) => guest_sud::set(call),
        sysno::SECCOMP | sysno::PRCTL => seccomp::begin(call, session),
        sysno::MUNMAP => {
            thread_end::free_base(block, call);
            mappings::unmap(block, call)
        }
        sysno::SIGALTSTACK => Step::Tell(Returns::Once),
        sysno::RT_SIGACTION => action::set_action(block, call),
        sysno::CLOSE => {
            session.output.before_close(call);
            Step::Pass
        }
        nr if LEAVING.contains(&nr) => {
            last_words::before_leaving(session);
            Step::Pass
        }
        sysno::RT_SIGPROCMASK => reserved_mask::begin(block, call),
        sysno::RT_SIGPENDING => reserved_mask::pending(call),
        sysno::RT_SIGTIMEDWAIT => reserved_mask::wait(block, call),
        sysno::REBOOT => thread_end::end_machine(call, session),
        nr if io_uring::CALLS.contains(&nr) => io_uring::begin(call, session),
        sysno::EXECVE | sysno::EXECVEAT if !allows(call.nr, call.args) => Step::Pass,
        sysno::EXECVE | sysno::EXECVEAT => exec::replace(block, call, session),
        nr if exit_filter::CALLS.contains(nr) => Step::Filter,
        _ => Step::Pass,
    }
}

fn go(block: &mut Block, step: Step, call: &Call, told: Told) {
    match step {
        Step::Pass if told.is_empty() && *call == block.call() => {
            block.target = stubs::in_stub(block.stub, stub::SYSCALL);
        }
        Step::Leave => {
            block.set_call(call);
            block.target = stubs::in_stub(block.stub, stub::SYSCALL);
        }
        step => go_and_return(block, step, call, told),
    }
}

/// As [`go`], for calls that are answered or come back.
#[inline(never)]
fn go_and_return(block: &mut Block, step: Step, call: &Call, told: Told) {
    let mut limit = slots::ORDINARY;
    let mut masks = None;
    let returns = match step {
        Step::Answer(mut outcome) => {
            if let Some(session) = session::get() {
                session.tools.exit(told, call, &mut outcome, &Memory);
            }
            block.regs.rax = outcome.0;
            block.target = stubs::in_stub(block.stub, stub::RETURN);
            return;
        }
        Step::Filter
            if told.is_empty()
                && *call == block.call()
                && let Some(slot) = exit_filter::slot(block.stub, call.nr, stubs::way_back(block.stub)) =>
        {
            block.target = slot;
            return;
        }
        Step::Tell(returns) => {
            limit = layout::SLOTS;
            returns
        }
        Step::TellOfMask(told) => {
            limit = layout::SLOTS;
            masks = Some(told);
            Returns::Once
        }
        // A changed call comes back here too, to give the program its own argument registers again.
        Step::Pass | Step::Filter | Step::Leave => Returns::Once,
    };
    let Call { nr: original_nr, args: originals } = block.call();
    block.set_call(call);
    let pending = Pending { call: *call, original_nr, originals, stub: block.stub, told, returns, masks };
    let prepared = slots::prepare(&pending, stubs::way_back(block.stub), block, limit);
    block.target = prepared.map_or_else(|| go_without_slot(block, &pending), |prepared| prepared.code);
    if let Some(mask_at) = prepared.and_then(|prepared| prepared.mask_at) {
        block.regs.rsi = mask_at;
    }
}

/// No slot is free: the call is made all the same, unless the net must be put under a child.
#[cold]
fn go_without_slot(block: &mut Block, pending: &Pending) -> GuestAddr {
    slots::count_missed();
    if pending.returns == Returns::Once || !sud::refuses_unarmed_child() {
        return stubs::in_stub(block.stub, stub::SYSCALL);
    }
    let mut outcome = Outcome::failure(Errno::EAGAIN);
    let collected = Collected { pending: *pending, side: Side::Caller, vforks: 0, ran_owned: false };
    split::finish_split(block, &collected, outcome);
    if let Some(session) = session::get() {
        session.tools.exit(pending.told, &pending.call, &mut outcome, &Memory);
    }
    block.set_arguments(pending.originals);
    block.regs.rax = outcome.0;
    stubs::in_stub(block.stub, stub::RETURN)
}

/// Runs the exit hooks of the call that has returned in a slot.
#[unsafe(no_mangle)]
extern "C" fn loader_returned(block: &mut Block) {
    settle(block);
    let ended = end(block, block.area, Outcome(block.regs.rax));
    block.set_arguments(ended.pending.originals);
    block.regs.rax = ended.outcome.0;
    block.target = stubs::in_stub(ended.pending.stub, stub::RETURN);
}

/// A call that is over.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// What it left behind.
    pub pending: Pending,
    /// What the program is to see.
    pub outcome: Outcome,
}

/// Ends the call behind `area`, which has returned, or is to be made again as an outcome of
/// [`Errno::is_restart`](crate::abi::errno::Errno::is_restart) says. The hooks run on `block`.
pub fn end(block: &mut Block, area: u64, mut outcome: Outcome) -> Ended {
    let failed = outcome.errno().is_some();
    let Some(collected) = slots::collect(block, area, failed) else {
        unreachable!("a slot's area lies in its record");
    };
    let pending = &collected.pending;
    match collected.side {
        Side::Child => split::begin_child(block, pending.returns),
        Side::Caller => {
            if HANDLED.contains(pending.call.nr) {
                outcome = end_special(block, &collected, outcome);
            }
            if let Some(session) = session::get() {
                session.tools.exit(pending.told, &pending.call, &mut outcome, &Memory);
            }
        }
    }
    Ended { pending: collected.pending, outcome }
}

/// What [`special`] calls leave to do when they have returned. Returns what the program is to see.
#[inline(never)]
fn end_special(block: &mut Block, collected: &Collected, outcome: Outcome) -> Outcome {
    let call = &collected.pending.call;
    split::finish_split(block, collected, outcome);
    mappings::note_mapping(call, outcome);
    mappings::note_attached(call, outcome);
    if call.nr == sysno::SHMAT {
        sud::join(block);
    }
    altstacks::note(call, outcome);
    reserved_mask::finish(call, collected.pending.masks, outcome);
    seccomp::finish(call, outcome);
    end_filtered(call, outcome)
}

/// Runs the exit hook of the call that has returned in a dedicated slot and that its filter wants to be seen.
#[unsafe(no_mangle)]
extern "C" fn loader_filtered(block: &mut Block) {
    settle(block);
    let Some((stub, nr)) = Slot::of_area(block.area).dedication() else {
        unreachable!("a dedicated slot's area is its record");
    };
    let call = Call { nr, ..block.call() };
    block.regs.rax = end_filtered(&call, Outcome(block.regs.rax)).0;
    block.target = stubs::in_stub(stub, stub::RETURN);
}

/// Ends a call that has returned in a dedicated slot.
pub fn end_filtered(call: &Call, outcome: Outcome) -> Outcome {
    match session::get() {
        Some(session) if exit_filter::wants(call, outcome) => proc_exe::corrected(call, outcome, session),
        _ => outcome,
    }
}

/// Tells the tools, when a handler is about to be entered, of the `rt_sigreturn` that ends it: the bytes that make that
/// call are what unwinders look for, and stay as they are.
pub fn announce_return() {
    if let Some(session) = session::get() {
        let mut call = Call { nr: sysno::RT_SIGRETURN, args: [0; 6] };
        let _ = session.tools.enter(&mut call, &Memory);
    }
}

/// On a shared block: makes the thread the owner of a block of its own for the next time.
pub fn settle(block: &Block) {
    if block.owner.load(Ordering::Relaxed) == 0 {
        settle_shared(block);
    }
}

#[cold]
fn settle_shared(block: &Block) {
    match tasks::own_base() {
        Some(base) if tasks::is_own_process() => pool::adopt(base),
        _ => tasks::claim(block),
    }
}

/// The stub whose `syscall` ends at `at`.
#[must_use]
pub fn stub_at(at: GuestAddr) -> Option<u32> {
    let offset = at.0.checked_sub(gate_asm::stubs())?;
    let index = u32::try_from(offset / stub::LEN as u64).ok().filter(|index| *index < layout::STUBS)?;
    (offset % stub::LEN as u64 == stub::RETURN as u64).then_some(index)
}
