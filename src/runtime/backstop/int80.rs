//! `int 0x80`, by which code of 64 bits too makes calls of the i386 table. Zone: call.
//!
//! Such a site is a trap, and its stub the instruction and nothing else. So this is where its calls are seen: before they are
//! made, under numbers of their own ([`sysno::of_i386`]). Nobody hears how they went, and nothing that they do to memory,
//! processes and signals is followed.

use crate::abi::call::Call;
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::hook::tool::Verdict;
use crate::plan::stub::{self, Fields, Instruction};
use crate::runtime::backstop::guest_sud;
use crate::runtime::gate::stubs;
use crate::runtime::session::guest::Memory;
use crate::runtime::session::{self, Session, last_words};
use crate::runtime::signal::frame::Frame;
use crate::runtime::tasks;

/// Before a trap goes on at `entry`: if its site is an `int 0x80`, tools hear of the call. Leaves in the frame where it goes on.
pub(crate) fn go_on(frame: Frame, entry: GuestAddr) {
    frame.context().rip = entry.0;
    let fields = stubs::fields(stubs::index_of(entry));
    if let Some(fields) = fields.filter(|fields| fields.instruction == Instruction::Int80)
        && let Some(session) = session::get()
    {
        begin(frame, &fields, session);
    }
}

#[cold]
fn begin(frame: Frame, fields: &Fields<'_>, session: &Session) {
    let context = frame.context();
    if guest_sud::is_used() && guest_sud::takes_int80(frame, fields.back) {
        return;
    }
    let nr = context.rax as u32;
    // 32 bits of each (arch/x86/entry/syscall_32.c).
    let args = [context.rbx, context.rcx, context.rdx, context.rsi, context.rdi, context.rbp]
        .map(|register| u64::from(register as u32));
    let mut call = Call { nr: sysno::of_i386(nr), args };
    let (verdict, owed) = session.tools.enter(&mut call, &Memory);
    match (verdict, nr) {
        (Verdict::Answer(mut outcome), _) => {
            session.tools.exit(owed, &call, &mut outcome, &Memory);
            context.rax = outcome.0;
            context.rip = fields.at.wrapping_add(stub::RETURN as u64).0;
        }
        (_, sysno::I386_EXIT_GROUP) => last_words::end_process(session),
        (_, sysno::I386_EXIT) if tasks::is_only_thread() => last_words::end_process(session),
        _ => {}
    }
}
