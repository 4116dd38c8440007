//! The frame that the kernel builds on a stack for a handler. Zone: call.
//!
//! A frame is what `rt_sigreturn` restores, all vector state included, so frames are changed and moved, never made: only
//! the kernel knows how large that state is (arch/x86/kernel/fpu/signal.c). Moving one needs no more than a pointer
//! mended, since nothing else in it depends on where it lies.

use crate::abi::signal::{SS_DISABLE, SigContext, SigFrame, SigInfo, SigStack, UContext, XMM_OFFSET};
use crate::addr::GuestAddr;
use crate::runtime::gate::block::Vectors;
use core::mem::offset_of;

/// Where the kernel says how long it is (`struct _fpx_sw_bytes`, arch/x86/include/uapi/asm/sigcontext.h).
const SOFTWARE_OFFSET: u64 = 464;

const MAGIC: u32 = 0x4650_5853;

/// Where the bits of the components stand that are not in their initial state (SDM vol. 1, 13.4.2).
const COMPONENTS_OFFSET: u64 = 512;

const SSE: u64 = 1 << 1;

/// The state without extensions.
const LEGACY_LEN: u64 = 512;

/// What `get_sigframe` keeps: 64 bytes for the state (XSAVE), 16 for the frame less its return address.
const STATE_ALIGNMENT: u64 = 64;

const FRAME_ALIGNMENT: u64 = 16;

/// The bytes below the stack pointer that belong to the program (psABI 3.2.2).
const RED_ZONE: u64 = 128;

/// A frame that is not in use yet: its handler has not been entered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    at: GuestAddr,
}

impl Frame {
    /// The frame at `at`.
    ///
    /// # Safety
    ///
    /// The kernel has built it there, or [`Self::move_to`] has put it there, and nobody else uses it while this lives.
    #[must_use]
    pub(crate) unsafe fn at(at: GuestAddr) -> Self {
        Self { at }
    }

    /// Its first byte: the handler's stack pointer.
    #[must_use]
    pub(crate) fn start(self) -> GuestAddr {
        self.at
    }

    /// The address of the handler's second argument.
    #[must_use]
    pub(crate) fn info_at(self) -> GuestAddr {
        self.at.wrapping_add(offset_of!(SigFrame, info) as u64)
    }

    /// The address of the handler's third argument.
    #[must_use]
    pub(crate) fn ucontext_at(self) -> GuestAddr {
        self.at.wrapping_add(offset_of!(SigFrame, ucontext) as u64)
    }

    fn whole(self) -> *mut SigFrame {
        core::ptr::with_exposed_provenance_mut(self.at.0 as usize)
    }

    /// The interrupted thread.
    #[must_use]
    pub(crate) fn ucontext(self) -> &'static mut UContext {
        // SAFETY: there is a frame, and its user is the only one, as `at` asks for. It lies on a stack, aligned.
        unsafe { &mut (*self.whole()).ucontext }
    }

    /// Its registers.
    #[must_use]
    pub(crate) fn context(self) -> &'static mut SigContext {
        &mut self.ucontext().mcontext
    }

    /// Why the signal came.
    #[must_use]
    pub(crate) fn info(self) -> &'static mut SigInfo {
        // SAFETY: as in `ucontext`.
        unsafe { &mut (*self.whole()).info }
    }

    fn read<T: Copy>(self, at: u64) -> T {
        // SAFETY: callers pass addresses in the frame's vector state, which the kernel has written.
        unsafe { core::ptr::with_exposed_provenance::<T>(at as usize).read() }
    }

    /// Bytes of the vector state; 0 if there is none.
    fn state_len(self) -> u64 {
        let state = self.context().fpstate;
        if state == 0 {
            return 0;
        }
        let [magic, len]: [u32; 2] = self.read(state + SOFTWARE_OFFSET);
        if magic == MAGIC { len.into() } else { LEGACY_LEN }
    }

    /// Puts xmm0 to xmm15 into the state.
    pub(crate) fn set_vectors(self, vectors: &Vectors) {
        let state = self.context().fpstate;
        if state == 0 {
            return;
        }
        if self.state_len() > LEGACY_LEN {
            let components: u64 = self.read(state + COMPONENTS_OFFSET);
            let at = core::ptr::with_exposed_provenance_mut::<u64>((state + COMPONENTS_OFFSET) as usize);
            // SAFETY: the state is long enough to have this header.
            unsafe { at.write(components | SSE) };
        }
        let at = core::ptr::with_exposed_provenance_mut::<Vectors>(state as usize + XMM_OFFSET);
        // SAFETY: every state has the registers there.
        unsafe { at.write(*vectors) };
    }

    /// Makes the thread be where that of `other` is, in all but the mask.
    pub(crate) fn take_state(self, other: Self) {
        let own_state = self.context().fpstate;
        let from = other.context();
        let state = from.fpstate;
        *self.context() = SigContext { fpstate: own_state, oldmask: self.context().oldmask, ..*from };
        let len = self.state_len().min(other.state_len()) as usize;
        if len != 0 {
            // SAFETY: both states are that long and lie in different frames.
            unsafe { copy(GuestAddr(state), GuestAddr(own_state), len) };
        }
    }

    /// Makes the thread be where that of `below` is, as if the signal of that one had not come.
    pub(crate) fn supersede(self, below: Self) {
        self.take_state(below);
        self.ucontext().sigmask = below.ucontext().sigmask;
    }

    /// Where the kernel would build this frame for a thread whose stack pointer is `sp`, if it built it at `built`.
    #[must_use]
    pub(crate) fn home(self, built: GuestAddr, sp: u64) -> GuestAddr {
        let alternate = self.ucontext().stack;
        let top = if is_on(&alternate, built.0) && !is_on(&alternate, sp) {
            alternate.base.wrapping_add(alternate.len)
        } else {
            sp.wrapping_sub(RED_ZONE)
        };
        GuestAddr(frame_below(top, self.state_len()))
    }

    /// Copies it so that it starts at `to`, as [`Self::home`] or [`Self::room_at`] gives it, and returns the copy.
    ///
    /// # Safety
    ///
    /// The copy's memory, from `to` to the end of its vector state, is free.
    #[must_use]
    pub(crate) unsafe fn move_to(self, to: GuestAddr) -> Self {
        let len = self.state_len();
        let state = self.context().fpstate;
        let moved = Self { at: to };
        // SAFETY: the frame is the kernel's and whole; the caller vouches for the target. The two may overlap, and the
        // part that lies lower is moved first when moving down.
        unsafe {
            if to <= self.at {
                copy(self.at, to, size_of::<SigFrame>());
                copy_state(state, state_above(to), len);
            } else {
                copy_state(state, state_above(to), len);
                copy(self.at, to, size_of::<SigFrame>());
            }
        }
        moved.context().fpstate = if len == 0 { 0 } else { state_above(to) };
        moved
    }

    /// Where this frame can start in memory from `lowest` on.
    #[must_use]
    pub(crate) fn room_at(lowest: GuestAddr) -> GuestAddr {
        let state = (lowest.0 + (size_of::<SigFrame>() as u64 + 2 * FRAME_ALIGNMENT))
            .next_multiple_of(STATE_ALIGNMENT);
        GuestAddr(frame_below_state(state))
    }
}

/// Whether an address is on an alternate stack (`__on_sig_stack`, include/linux/sched/signal.h).
fn is_on(stack: &SigStack, sp: u64) -> bool {
    stack.flags & SS_DISABLE == 0 && sp > stack.base && sp - stack.base <= stack.len
}

/// Where a frame starts that the kernel builds below `top` (`get_sigframe`, arch/x86/kernel/signal.c).
fn frame_below(top: u64, state_len: u64) -> u64 {
    frame_below_state(top.wrapping_sub(state_len) & !(STATE_ALIGNMENT - 1))
}

fn frame_below_state(state: u64) -> u64 {
    (state.wrapping_sub(size_of::<SigFrame>() as u64) & !(FRAME_ALIGNMENT - 1)).wrapping_sub(8)
}

/// Where the state of a frame starts that starts at `frame`.
fn state_above(frame: GuestAddr) -> u64 {
    (frame.0 + size_of::<SigFrame>() as u64).next_multiple_of(STATE_ALIGNMENT)
}

/// # Safety
///
/// As [`copy`].
unsafe fn copy_state(from: u64, to: u64, len: u64) {
    if len != 0 {
        // SAFETY: as the caller vouches.
        unsafe { copy(GuestAddr(from), GuestAddr(to), len as usize) };
    }
}

/// # Safety
///
/// `len` bytes at `from` are readable, and those at `to` are free.
unsafe fn copy(from: GuestAddr, to: GuestAddr, len: usize) {
    let from = core::ptr::with_exposed_provenance::<u8>(from.0 as usize);
    let to = core::ptr::with_exposed_provenance_mut::<u8>(to.0 as usize);
    // SAFETY: as the caller vouches.
    unsafe { core::ptr::copy(from, to, len) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_frame_and_its_state_lie_as_the_kernel_aligns_them(top in 0x10_0000_u64.., len in 0_u64..12_000) {
            let frame = frame_below(top, len);
            let state = state_above(GuestAddr(frame));
            prop_assert_eq!((frame + 8) % 16, 0);
            prop_assert_eq!(state % 64, 0);
            prop_assert!(state + len <= top);
            prop_assert!(state >= frame + size_of::<SigFrame>() as u64);
            prop_assert!(top - frame < len + 440 + 64 + 24);
        }

        #[test]
        fn room_lies_in_the_memory_it_is_asked_for(lowest in 0_u64..1 << 40) {
            let at = Frame::room_at(GuestAddr(lowest)).0;
            prop_assert!(at >= lowest && at < lowest + 128);
        }
    }

    #[test]
    fn an_alternate_stack_reaches_from_above_its_base_to_its_end() {
        let stack = SigStack { base: 0x1000, flags: 0, pad: 0, len: 0x800 };
        assert_eq!([0x1000, 0x1001, 0x1800, 0x1801].map(|sp| is_on(&stack, sp)), [false, true, true, false]);
        assert!(!is_on(&SigStack { flags: SS_DISABLE, ..stack }, 0x1400));
    }
}
