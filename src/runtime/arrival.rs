//! A signal that the kernel has delivered, and whose handler has not been entered. Zone: call.

use crate::abi::signal::{SIG_SETMASK, Signal, SignalSet};
use crate::addr::GuestAddr;
use crate::runtime::gate::block::Block;
use crate::runtime::gate::pool;
use crate::runtime::reserved_delivery;
use crate::runtime::signal::fatal;
use crate::runtime::signal::frame::Frame;
use crate::runtime::signal::handlers::{self, Handler};
use crate::sys::signal;

/// A signal that the kernel has delivered, and whose handler has not been entered.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) frame: Frame,
    /// The handler.
    pub(super) handler: GuestAddr,
    /// The signal, as the handler gets it.
    pub(super) number: u64,
    /// Whether it was raised for what an instruction did.
    pub(super) is_fault: bool,
}

/// The signal that a filter turns a call down with (SECCOMP_RET_TRAP).
const TURNED_DOWN: Signal = Signal::SIGSYS;

impl Arrival {
    /// That of `number` with its frame at `at`, which came through an entry; `None` if the loader has dealt with it.
    ///
    /// # Safety
    ///
    /// The kernel has built the frame there.
    pub(super) unsafe fn through(entry: u32, at: u64, number: u64) -> Option<Self> {
        // SAFETY: as the caller vouches.
        let frame = unsafe { Frame::at(GuestAddr(at)) };
        let (handler, is_informed) = match handlers::of(entry)? {
            Handler::Program { at, is_informed } => (at, is_informed),
            Handler::Reserved => (reserved_delivery::resolve(frame)?, true),
            Handler::Fatal => {
                fatal::end(frame);
                return None;
            }
        };
        let is_synchronous = SignalSet::SYNCHRONOUS.contains(Signal(number as u32));
        // Who is not told why is not told by whom either; such signals are hardly ever sent.
        let is_fault = is_synchronous && (!is_informed || frame.info().code > 0);
        Some(Self { frame, handler, number, is_fault })
    }

    /// Whether it came instead of a call.
    pub(super) fn is_turned_down(&self) -> bool {
        self.is_fault && self.number == u64::from(TURNED_DOWN.0)
    }

    /// Goes on at the handler, with the registers that the kernel gives it.
    pub(super) fn enter(&self, block: &mut Block) {
        block.regs.rax = 0;
        block.regs.rdi = self.number;
        block.regs.rsi = self.frame.info_at().0;
        block.regs.rdx = self.frame.ucontext_at().0;
        block.regs.rsp = self.frame.start().0;
        block.target = self.handler;
    }

    /// Puts the frame where the kernel would have built it: it may lie on a block that is no longer in use.
    pub(super) fn bring_home(&mut self) {
        if pool::mapping().contains(self.frame.start()) {
            let home = self.frame.home(self.frame.start(), self.frame.context().rsp);
            // SAFETY: what lies below the program's stack pointer and its red zone is free.
            self.frame = unsafe { self.frame.move_to(home) };
        }
    }

    /// Keeps it on `block` until `hook` is done; returns the registers to resume the hook with.
    pub(super) fn hold(&self, block: &mut Block, hook: &Block) -> u64 {
        block.target = self.handler;
        block.regs.rdi = self.number;
        block.area = self.frame.start().0;
        // SAFETY: the stack of this block ends far above its lowest bytes.
        let held = unsafe { self.frame.move_to(Frame::room_at(block.lowest())) };
        hook.append_waiting(block);
        // The frame has left the alternate stack, which the hook does not run for.
        if let Some(mask) = block.take_mask() {
            let _ = signal::change_mask(SIG_SETMASK, mask);
        }
        (&raw const *held.context()).expose_provenance() as u64
    }

    /// The one that `holder` has kept.
    pub(super) fn held_by(holder: &Block) -> Self {
        // SAFETY: `hold` has put it there.
        let frame = unsafe { Frame::at(Frame::room_at(holder.lowest())) };
        Self { frame, handler: holder.target, number: holder.regs.rdi, is_fault: false }
    }
}
