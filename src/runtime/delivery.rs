//! Signals on their way to the program's handlers. Zone: call.
//!
//! The kernel delivers to an entry in the gate, which lands here, on a block. The frame that the kernel has built says
//! where the signal came; if that is in the loader, the frame is made to say what it would without one ([`interrupted`](crate::runtime::interrupted)):
//!
//! - in a stub, or on the way to one: before the call, after it, or at the evicted instruction;
//! - in a slot: the call is over, and its exit hooks run here, or it is to be made again, and they hear of that;
//! - in assembly that saves or restores registers: as the marks there say ([`unsaved`](crate::runtime::gate::unsaved));
//! - in a hook: the signal is *held* until the hook is done, its frame on the block it came on, and the hook goes on. At the
//!   hook's end ([`loader_deliver_waiting`]) the frame is put where the kernel would have built it for the program.
//!
//! So no handler of the program's ever runs while a hook is under way, and one that never returns leaves nothing behind.
//! Masks, actions and the order of signals are the kernel's own all along.

use crate::addr::GuestAddr;
use crate::runtime::arrival::Arrival;
use crate::runtime::dispatch;
use crate::runtime::gate::block::{Block, Vectors};
use crate::runtime::gate::restorer;
use crate::runtime::interrupted::{self, Whereabouts};

/// Lands a signal: returns 0 with where to go on in the block, or the registers of loader code to resume.
#[unsafe(no_mangle)]
extern "C" fn loader_delivered(block: &mut Block) -> u64 {
    dispatch::adopt_block(block);
    // SAFETY: the kernel has just built it there.
    let Some(mut delivery) = (unsafe { Arrival::through(block.stub, block.regs.rsp, block.regs.rdi) }) else {
        // As the handler would have returned: the restorer finds the frame above its return address.
        block.regs.rsp += size_of::<u64>() as u64;
        block.target = restorer::way_out();
        return 0;
    };
    let came_at = delivery.frame.context().rip;
    match interrupted::show_as_native(&delivery, block) {
        Whereabouts::Program => {
            let info = delivery.frame.info();
            if delivery.is_fault && info.addr() == came_at {
                info.fields[0] = delivery.frame.context().rip;
            }
            delivery.bring_home();
            delivery.enter(block);
            dispatch::announce_return();
            0
        }
        Whereabouts::Hook(hook) => delivery.hold(block, hook),
    }
}

/// At the end of a hook: puts the signals that have waited for it on the program's stack, one on the other, as the kernel
/// does when several come at once.
#[unsafe(no_mangle)]
extern "C" fn loader_deliver_waiting(block: &mut Block) {
    let mut waiting = block.take_waiting();
    while let Some(holder) = waiting {
        deliver_held(holder, block);
        waiting = holder.take_followers();
        holder.free();
    }
}

/// Puts the signal that `holder` has kept on the program's stack, and makes `block` leave to its handler.
fn deliver_held(holder: &Block, block: &mut Block) {
    let mut delivery = Arrival::held_by(holder);
    interrupted::load(delivery.frame, block);
    if let Whereabouts::Hook(_) = interrupted::show_as_native(&delivery, block) {
        unreachable!("a hook ends in the gate or at a handler");
    }
    let home = delivery.frame.home(GuestAddr(holder.area), delivery.frame.context().rsp);
    // SAFETY: what lies below the program's stack pointer and its red zone is free, and so is its alternate stack if the
    // kernel has built the frame there.
    delivery.frame = unsafe { delivery.frame.move_to(home) };
    delivery.enter(block);
    dispatch::announce_return();
    block.regs.rflags &= !CLEARED_FOR_HANDLERS;
    block.xmm = Vectors::ZERO;
}

/// DF, RF and TF, which `handle_signal` clears (arch/x86/kernel/signal.c).
const CLEARED_FOR_HANDLERS: u64 = 1 << 10 | 1 << 16 | 1 << 8;
