//! Where a thread would be if there were no loader: its frame is made to show that. Zone: call.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::signal::{SigContext, Signal};
use crate::addr::GuestAddr;
use crate::plan::relay;
use crate::plan::stub::{self, Fields, Instruction, Standing};
use crate::runtime::arrival::Arrival;
use crate::runtime::backstop::{guest_sud, sud};
use crate::runtime::calls::exit_filter;
use crate::runtime::code::patched;
use crate::runtime::gate::block::Block;
use crate::runtime::gate::slots::{self, Slot};
use crate::runtime::gate::unsaved::{self, Index, Taken, Unsaved, Value};
use crate::runtime::gate::{gate_asm, generation, layout, pool, record, restorer, slot_code, stubs};
use crate::runtime::signal::frame::Frame;
use crate::runtime::signal::{fatal, handlers};
use crate::runtime::{dispatch, tasks};
use core::sync::atomic::Ordering;

/// Where a thread is, once its registers have been made the program's where that can be done.
pub(super) enum Whereabouts {
    /// In the program.
    Program,
    /// In a hook that runs on this block.
    Hook(&'static Block),
}

/// Puts the registers that a hook has left on its block into the frame.
pub(crate) fn load(frame: Frame, block: &Block) {
    let context = frame.context();
    load_general(context, block);
    context.rax = block.regs.rax;
    context.rcx = block.target.0;
    context.r11 = block.regs.rflags;
    context.eflags = block.regs.rflags;
    context.rip = block.target.0;
    frame.set_vectors(&block.xmm);
}

/// Puts the registers that a landing saves into the frame.
fn load_general(context: &mut SigContext, block: &Block) {
    let regs = &block.regs;
    *context = SigContext {
        rbx: regs.rbx,
        rdx: regs.rdx,
        rsi: regs.rsi,
        rdi: regs.rdi,
        rbp: regs.rbp,
        rsp: regs.rsp,
        r8: regs.r8,
        r9: regs.r9,
        r10: regs.r10,
        r12: regs.r12,
        r13: regs.r13,
        r14: regs.r14,
        r15: regs.r15,
        ..*context
    };
}

/// Makes the frame show the thread where it would be if there were no loader. Hooks that are due run on `block`.
pub(super) fn show_as_native(delivery: &Arrival, block: &mut Block) -> Whereabouts {
    let frame = delivery.frame;
    loop {
        let context = frame.context();
        let at = GuestAddr(context.rip);
        if let Some(entry) = handlers::index_of(at) {
            return show_below(delivery, entry, block);
        }
        if let Some((fields, offset)) = stubs::stub_around(at) {
            show(context, &fields, offset);
            return Whereabouts::Program;
        }
        if restorer::is_on_way_out(at) {
            // SAFETY: the kernel has built it there, and nobody else looks at it any more.
            frame.supersede(unsafe {
                Frame::at(GuestAddr(context.rsp).wrapping_sub(size_of::<u64>() as u64))
            });
            continue;
        }
        if let Some((slot, offset)) = slots::slot_around(at) {
            show_in_slot(delivery, block, slot, offset);
            continue;
        }
        if let Some(offset) = restorer::offset_in_restorer(at) {
            // In its own the thread would be caught, perhaps at the end of a handler that blocks the signal for that.
            let own = handlers::in_own_restorer(offset).filter(|_| !sud::is_armed());
            context.rip = own.unwrap_or(at).0;
            return Whereabouts::Program;
        }
        if restorer::is_in_bare_call(at) {
            context.rip = context.rbx;
            continue;
        }
        if let Some((window, taken)) = unsaved::around(at) {
            match show_in_window(delivery, block, window, taken) {
                Some(found) => return found,
                None => continue,
            }
        }
        if let Some(hook) = pool::around(GuestAddr(context.rsp)) {
            if !delivery.is_fault || hook.raises.load(Ordering::Relaxed) != 0 {
                return Whereabouts::Hook(hook.waits_for());
            }
            if guest_sud::faults_at(at) {
                fatal::force(Signal::SIGSEGV);
            }
            abandon(delivery, hook);
            continue;
        }
        match relay::entry_from(at, stubs::range(), |at| patched::known().window(at), stubs::origin) {
            Some(entry) => context.rip = entry.0,
            None => return Whereabouts::Program,
        }
    }
}

/// Shows a thread that is in a stub where the program would be.
fn show(context: &mut SigContext, fields: &Fields<'_>, offset: usize) {
    match stub::standing(offset) {
        Standing::Evicted => context.rip = fields.evicted_from().0,
        Standing::Before => {
            context.rip = fields.resume(context.rax as u32, |number| general(context, number)).0;
            leave_kernel(context, fields);
        }
        Standing::After => {
            context.rip = fields.back.0;
            leave_kernel(context, fields);
        }
    }
}

/// What a system call at the site leaves in the registers that it destroys (SDM vol. 2B, SYSCALL); `int 0x80` has none.
const fn leave_kernel(context: &mut SigContext, fields: &Fields<'_>) {
    if matches!(fields.instruction, Instruction::Syscall) {
        context.rcx = fields.back.0;
        context.r11 = context.eflags;
    }
}

/// The general register that instructions call `number`.
fn general(context: &SigContext, number: u8) -> u64 {
    let SigContext { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, .. } =
        *context;
    let all = [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
    all.get(usize::from(number)).copied().unwrap_or_default()
}

fn set_arguments(context: &mut SigContext, args: [u64; 6]) {
    [context.rdi, context.rsi, context.rdx, context.r10, context.r8, context.r9] = args;
}

const fn arguments(context: &SigContext) -> [u64; 6] {
    [context.rdi, context.rsi, context.rdx, context.r10, context.r8, context.r9]
}

/// In a slot: the call is next or to be made again, or it has returned.
fn show_in_slot(delivery: &Arrival, block: &mut Block, slot: Slot, offset: usize) {
    let context = delivery.frame.context();
    if delivery.is_turned_down() {
        // rax is the number still, and is what the handler sees (kernel/entry/common.c, `syscall_rollback`).
        let nr = core::mem::replace(&mut context.rax, Outcome::failure(Errno::ENOSYS).0);
        end(context, block, slot, false);
        context.rax = nr;
        return;
    }
    if offset >= slot_code::RETURN {
        let is_child = slot.returns_twice() && context.rax == 0;
        return end(context, block, slot, is_child);
    }
    let stub = match slot.dedication() {
        Some((stub, _)) => stub,
        None => {
            let interrupted = Outcome::failure(Errno::ERESTARTSYS);
            let ended = dispatch::end(block, slot.area(false), interrupted);
            set_arguments(context, ended.pending.originals);
            context.rax = ended.pending.original_nr.into();
            ended.pending.stub
        }
    };
    context.rip = stubs::in_stub(stub, stub::SYSCALL).0;
}

/// Runs the exit hooks of a call that has returned in a slot.
fn end(context: &mut SigContext, block: &mut Block, slot: Slot, is_child: bool) {
    let outcome = Outcome(context.rax);
    let stub = match slot.dedication() {
        Some((stub, nr)) => {
            let call = Call { nr, args: arguments(context) };
            context.rax = exit_filter::end(&call, outcome).0;
            stub
        }
        None => {
            let ended = dispatch::end(block, slot.area(is_child), outcome);
            set_arguments(context, ended.pending.originals);
            context.rax = ended.outcome.0;
            ended.pending.stub
        }
    };
    context.rip = stubs::in_stub(stub, stub::RETURN).0;
}

/// In assembly between the program and a hook. `None` if the registers are the program's now, and the thread is in the
/// gate.
fn show_in_window(
    delivery: &Arrival,
    block: &mut Block,
    window: Unsaved,
    taken: Taken,
) -> Option<Whereabouts> {
    let frame = delivery.frame;
    let context = frame.context();
    let entry = || handlers::index_of(GuestAddr(context.rax));
    if window == Unsaved::Signalled {
        let entry = entry();
        give_back(context, taken);
        return Some(entry.map_or(Whereabouts::Program, |entry| show_below(delivery, entry, block)));
    }
    let (rax, rcx, live) = (context.rax, context.rcx, context.eflags);
    match window {
        Unsaved::LeaveStart | Unsaved::Leave | Unsaved::Unmasking => return leave(frame, window),
        Unsaved::Left => {
            context.rip = rcx;
            return None;
        }
        Unsaved::Hooked(value, index) => {
            let stub = index_of(index, rax, rcx, gate_asm::stubs(), stub::LEN);
            context.rip = stubs::in_stub(stub, stub::SYSCALL).0;
            context.rax = value.of(rax).into();
            context.eflags = value.flags(rax, live);
        }
        Unsaved::Filter(value, flags) => {
            context.rip = rcx;
            context.rax = value.of(rax).into();
            context.eflags = flags.of(rax, live);
        }
        Unsaved::Filtered(value, index) => {
            let slot = Slot::at(index_of(index, rax, rcx, record::first_record(), layout::SLOT_LEN));
            context.rax = sign_extended(value.of(rax));
            context.eflags = value.flags(rax, live);
            end(context, block, slot, false);
        }
        Unsaved::Path(value) => show_in_filter(context, block, value.of(rax), context.r11),
        Unsaved::PathFlags => show_in_filter(context, block, Value::Swapped.of(rax), u64::from(rax as u32)),
        Unsaved::PathZero => show_in_filter(context, block, 0, context.r11),
        Unsaved::SplitStart | Unsaved::Split => {
            let area = if window == Unsaved::Split { context.r11 } else { rcx };
            let slot = Slot::of_area(area);
            end(context, block, slot, rax == 0);
        }
        Unsaved::ReturnedResult | Unsaved::ReturnedSpilled | Unsaved::ReturnedArea => {
            let area = if window == Unsaved::ReturnedArea { rax } else { rcx };
            let (result, flags) = slots::spilled(area);
            if window != Unsaved::ReturnedResult {
                context.rax = result;
            }
            if window == Unsaved::ReturnedArea {
                context.eflags = unsaved::with_flags(live, flags as u8, (flags >> 8) as u8);
            }
            give_back(context, taken);
            end(context, block, Slot::of_area(area), slots::is_childs(area));
            return None;
        }
        Unsaved::Masking(masking) => {
            let Some(hook) = pool::around(GuestAddr(context.rbp)) else { return Some(Whereabouts::Program) };
            load_general(context, hook);
            context.rax = hook.spilled;
            context.r11 = hook.header().0;
            return show_in_window(delivery, block, masking.window(), Taken::Yes);
        }
        Unsaved::Signalled => {}
    }
    give_back(context, taken);
    None
}

/// A filter was looking at a call that has returned with `result`.
fn show_in_filter(context: &mut SigContext, block: &mut Block, result: u32, flags: u64) {
    context.rax = sign_extended(result);
    context.eflags = flags;
    end(context, block, Slot::of_area(context.rcx), false);
}

const fn sign_extended(value: u32) -> u64 {
    (value.cast_signed() as i64).cast_unsigned()
}

fn index_of(index: Index, rax: u64, rcx: u64, first: u64, len: usize) -> u32 {
    let number = match index {
        Index::Address => rcx.wrapping_sub(first) / len as u64,
        Index::Offset => rcx / len as u64,
        Index::Number => u64::from(rcx as u32),
        Index::InRax => rax & 0xffff,
    };
    number as u32
}

/// Gives back the block that a window may have taken.
fn give_back(context: &SigContext, taken: Taken) {
    let is_taken = match taken {
        Taken::No => false,
        Taken::Yes => true,
        Taken::Perhaps => (context.rcx as u32) < generation::current(),
    };
    if is_taken && let Some(block) = pool::around(GuestAddr(context.r11)) {
        block.free();
    }
}

/// A hook was done: the frame takes what it has left.
fn leave(frame: Frame, window: Unsaved) -> Option<Whereabouts> {
    let context = frame.context();
    let at = match window {
        Unsaved::LeaveStart => context.rbx,
        Unsaved::Unmasking => context.rbp,
        _ => context.r11,
    };
    let hook = pool::around(GuestAddr(at))?;
    if hook.has_waiting() {
        return Some(Whereabouts::Hook(hook));
    }
    load(frame, hook);
    hook.leave();
    None
}

/// A hook has faulted, on memory that the program has passed it, or the call that it made for the program was turned
/// down: the program's call is.
fn abandon(delivery: &Arrival, hook: &Block) {
    load(delivery.frame, hook);
    let offset = if delivery.is_turned_down() { stub::RETURN } else { stub::SYSCALL };
    delivery.frame.context().rip = stubs::in_stub(hook.stub, offset).0;
    if let Some(mask) = hook.take_mask() {
        delivery.frame.ucontext().sigmask = mask;
    }
    hook.free();
}

/// The thread was about to enter a handler, for a signal that came just before: that one's frame is shown first.
fn show_below(delivery: &Arrival, entry: u32, block: &mut Block) -> Whereabouts {
    let frame = delivery.frame;
    let context = frame.context();
    // SAFETY: the kernel has built it there, and set the stack pointer to it.
    let Some(mut below) = (unsafe { Arrival::through(entry, context.rsp, context.rdi) }) else {
        // SAFETY: as above; nobody else looks at it any more.
        let below = unsafe { Frame::at(GuestAddr(context.rsp)) };
        frame.supersede(below);
        return show_as_native(delivery, block);
    };
    match show_as_native(&below, block) {
        Whereabouts::Program => {
            below.bring_home();
            dispatch::announce_return();
            context.rip = below.handler.0;
            context.rax = 0;
            context.rsp = below.frame.start().0;
            context.rsi = below.frame.info_at().0;
            context.rdx = below.frame.ucontext_at().0;
            Whereabouts::Program
        }
        Whereabouts::Hook(hook) => {
            frame.take_state(below.frame);
            below.hold(pool::take_shared(tasks::fs_base()), hook);
            Whereabouts::Hook(hook)
        }
    }
}
