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
use crate::hook::chain::Owed;
use crate::hook::tool::Verdict;
use crate::plan::stub;
use crate::runtime::backstop::{guest_sud, sud};
use crate::runtime::calls::{exit_filter, split, table};
use crate::runtime::gate::block::Block;
use crate::runtime::gate::pending::{Collected, Pending, Returns, Side};
use crate::runtime::gate::slots::{self, Slot};
use crate::runtime::gate::step::Step;
use crate::runtime::gate::{layout, pool, stubs};
use crate::runtime::session::followed::{Followed, Returned};
use crate::runtime::session::guest::Memory;
use crate::runtime::{session, tasks};
use core::sync::atomic::Ordering;

/// Runs the enter hooks of the call in `block`.
#[unsafe(no_mangle)]
extern "C" fn loader_entered(block: &mut Block) {
    adopt_block(block);
    let was_joining = sud::join(block);
    if guest_sud::is_used() && guest_sud::takes(block) {
        return;
    }
    let mut call = block.call();
    let Some(session) = session::get() else {
        return go(block, Step::Pass, &call, Owed::default());
    };
    let (verdict, owed) = session.tools.enter(&mut call, &Memory);
    let step = match verdict {
        Verdict::Answer(outcome) => Step::Answer(outcome),
        Verdict::Pass | Verdict::PassThenExit if table::follows(call.nr) => {
            table::begin(Followed { block, call: &call, session })
        }
        Verdict::Pass | Verdict::PassThenExit => Step::Pass,
    };
    if !was_joining {
        sud::join(block); // the call may have called for it
    }
    go(block, step, &call, owed);
}

fn go(block: &mut Block, step: Step, call: &Call, owed: Owed) {
    match step {
        Step::Pass if owed.is_empty() && *call == block.call() => {
            block.target = stubs::in_stub(block.stub, stub::SYSCALL);
        }
        Step::Leave => {
            block.set_call(call);
            block.target = stubs::in_stub(block.stub, stub::SYSCALL);
        }
        step => go_and_return(block, step, call, owed),
    }
}

/// As [`go`], for calls that are answered or come back.
#[inline(never)]
fn go_and_return(block: &mut Block, step: Step, call: &Call, owed: Owed) {
    let mut limit = slots::ORDINARY;
    let mut masks = None;
    let returns = match step {
        Step::Answer(mut outcome) => {
            if let Some(session) = session::get() {
                session.tools.exit(owed, call, &mut outcome, &Memory);
            }
            block.regs.rax = outcome.0;
            block.target = stubs::in_stub(block.stub, stub::RETURN);
            return;
        }
        Step::Filter
            if owed.is_empty()
                && *call == block.call()
                && let Some(slot) = exit_filter::slot(block.stub, call.nr, stubs::way_back(block.stub)) =>
        {
            block.target = slot;
            return;
        }
        Step::PassThenExit(returns) => {
            limit = layout::SLOTS;
            returns
        }
        Step::PassWithMask(pair) => {
            limit = layout::SLOTS;
            masks = Some(pair);
            Returns::Once
        }
        // A changed call comes back here too, to give the program its own argument registers again.
        Step::Pass | Step::Filter | Step::Leave => Returns::Once,
    };
    let Call { nr: original_nr, args: originals } = block.call();
    block.set_call(call);
    let pending = Pending { call: *call, original_nr, originals, stub: block.stub, owed, returns, masks };
    let prepared = slots::prepare(&pending, stubs::way_back(block.stub), block, limit);
    block.target = prepared.map_or_else(|| go_without_slot(block, &pending), |prepared| prepared.code);
    if let Some(mask_at) = prepared.and_then(|prepared| prepared.mask_at) {
        block.regs.rsi = mask_at;
    }
}

/// No slot is free: the call is made all the same, unless the backstop must be armed for a child.
#[cold]
fn go_without_slot(block: &mut Block, pending: &Pending) -> GuestAddr {
    slots::count_missed();
    if pending.returns == Returns::Once || !sud::refuses_unarmed_child() {
        return stubs::in_stub(block.stub, stub::SYSCALL);
    }
    let mut outcome = Outcome::failure(Errno::EAGAIN);
    let collected = Collected { pending: *pending, side: Side::Caller, vforks: 0, ran_owned: false };
    outcome = split::finish_split(Returned { block, collected: &collected, outcome });
    if let Some(session) = session::get() {
        session.tools.exit(pending.owed, &pending.call, &mut outcome, &Memory);
    }
    block.set_arguments(pending.originals);
    block.regs.rax = outcome.0;
    stubs::in_stub(block.stub, stub::RETURN)
}

/// Runs the exit hooks of the call that has returned in a slot.
#[unsafe(no_mangle)]
extern "C" fn loader_returned(block: &mut Block) {
    adopt_block(block);
    let ended = end(block, block.area, Outcome(block.regs.rax));
    block.set_arguments(ended.pending.originals);
    block.regs.rax = ended.outcome.0;
    block.target = stubs::in_stub(ended.pending.stub, stub::RETURN);
}

/// A call that is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// What it left behind.
    pub pending: Pending,
    /// What the program is to see.
    pub outcome: Outcome,
}

/// Ends the call behind `area`, which has returned, or is to be made again as an outcome of
/// [`Errno::is_restart`](crate::abi::errno::Errno::is_restart) says. The hooks run on `block`.
pub(crate) fn end(block: &mut Block, area: u64, mut outcome: Outcome) -> Ended {
    let failed = outcome.errno().is_some();
    let Some(collected) = slots::collect(block, area, failed) else {
        unreachable!("a slot's area lies in its record");
    };
    let pending = &collected.pending;
    match collected.side {
        Side::Child => split::begin_child(block, pending.returns),
        Side::Caller => {
            if table::follows(pending.call.nr) {
                outcome = table::finish(Returned { block, collected: &collected, outcome });
            }
            if let Some(session) = session::get() {
                session.tools.exit(pending.owed, &pending.call, &mut outcome, &Memory);
            }
        }
    }
    Ended { pending: collected.pending, outcome }
}

/// Runs the exit hook of the call that has returned in a dedicated slot and that its filter wants to be seen.
#[unsafe(no_mangle)]
extern "C" fn loader_filtered(block: &mut Block) {
    adopt_block(block);
    let Some((stub, nr)) = Slot::of_area(block.area).dedication() else {
        unreachable!("a dedicated slot's area is its record");
    };
    let call = Call { nr, ..block.call() };
    block.regs.rax = exit_filter::end(&call, Outcome(block.regs.rax)).0;
    block.target = stubs::in_stub(stub, stub::RETURN);
}

/// Tells the tools, when a handler is about to be entered, of the `rt_sigreturn` that ends it: the bytes that make that
/// call are what unwinders look for, and stay as they are.
pub(crate) fn announce_return() {
    if let Some(session) = session::get() {
        let mut call = Call { nr: sysno::RT_SIGRETURN, args: [0; 6] };
        let _ = session.tools.enter(&mut call, &Memory);
    }
}

/// On a shared block: makes the thread the owner of a block of its own for the next time.
pub(crate) fn adopt_block(block: &Block) {
    if block.owner.load(Ordering::Relaxed) == 0 {
        adopt_shared(block);
    }
}

#[cold]
fn adopt_shared(block: &Block) {
    match tasks::own_base() {
        Some(base) if tasks::is_own_process() => pool::adopt(base),
        _ => tasks::claim(block),
    }
}
