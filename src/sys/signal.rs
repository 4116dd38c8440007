//! Signal actions and masks. Zone: call.

use crate::abi::errno::Errno;
use crate::abi::signal::{SET_LEN, SIG_SETMASK, SIG_UNBLOCK, SigAction, SigInfo, Signal, SignalSet};
use crate::abi::sysno;
use crate::sys::{call, ids, program_call};

/// The action of `signal`.
///
/// # Errors
///
/// `EINVAL` for a number that is none.
pub(crate) fn action(signal: Signal) -> Result<SigAction, Errno> {
    let mut action = SigAction::DEFAULT;
    let at = (&raw mut action).addr() as u64;
    // SAFETY: the kernel writes `action`, which has its layout.
    unsafe { call(sysno::RT_SIGACTION, [signal.0.into(), 0, at, SET_LEN, 0, 0]) }?;
    Ok(action)
}

/// Sets the action of `signal`.
///
/// # Errors
///
/// `EINVAL` for a number that is none or can't be caught.
pub(crate) fn set_action(signal: Signal, action: &SigAction) -> Result<(), Errno> {
    let at = core::ptr::from_ref(action).addr() as u64;
    // SAFETY: the handler is the program's own, or one of ours that is made to be one.
    unsafe { call(sysno::RT_SIGACTION, [signal.0.into(), at, 0, SET_LEN, 0, 0]) }.map(drop)
}

/// Sends `signal` to the calling thread.
pub(crate) fn raise(signal: Signal) {
    let args = [u64::from(ids::id()), u64::from(ids::thread_id()), signal.0.into(), 0, 0, 0];
    // SAFETY: what the signal does is up to the program's dispositions.
    let _ = unsafe { call(sysno::TGKILL, args) };
}

/// Makes `signal` do what it does by default. Not a call that a filter of the program's is asked about: that of a program
/// in this memory may not be this one's, and nobody must go on whom a signal should end.
pub(crate) fn set_default(signal: Signal) {
    let default = SigAction::DEFAULT;
    let at = (&raw const default).addr() as u64;
    // SAFETY: the kernel reads the action.
    let _ = unsafe { program_call(sysno::RT_SIGACTION, [signal.0.into(), at, 0, SET_LEN, 0, 0]) };
}

/// Sends `signal` to the calling thread with all that `info` says about it. No filter is asked, as for [`set_default`].
pub(crate) fn send_to_self(signal: Signal, info: &SigInfo) {
    let at = core::ptr::from_ref(info).addr() as u64;
    // SAFETY: the calls touch no memory.
    let id = |nr| unsafe { program_call(nr, [0; 6]) }.unwrap_or(0);
    let args = [id(sysno::GETPID), id(sysno::GETTID), signal.0.into(), at, 0, 0];
    // SAFETY: the kernel reads `info`; what the signal does is up to the program's dispositions.
    let _ = unsafe { program_call(sysno::RT_TGSIGQUEUEINFO, args) };
}

/// Blocks every signal of the calling thread until dropped.
#[derive(Debug)]
pub(crate) struct AllBlocked {
    before: SignalSet,
}

impl AllBlocked {
    /// Blocks them; `None` if a filter of the program's forbids it.
    #[must_use]
    pub(crate) fn new() -> Option<Self> {
        change_mask(SIG_SETMASK, SignalSet::ALL).map(|before| Self { before })
    }
}

impl Drop for AllBlocked {
    fn drop(&mut self) {
        let _ = change_mask(SIG_SETMASK, self.before);
    }
}

/// Takes `signal` back where it is pending and blocked.
pub(crate) fn discard(signal: Signal) {
    let set = SignalSet::of(&[signal]);
    let no_time = [0_u64; 2];
    let args = [(&raw const set).addr() as u64, 0, (&raw const no_time).addr() as u64, SET_LEN, 0, 0];
    // SAFETY: the kernel reads the set and the time.
    let _ = unsafe { call(sysno::RT_SIGTIMEDWAIT, args) };
}

/// Unblocks the signals of `set` in the calling thread; returns the mask before, or `None` if a filter forbids it.
pub(crate) fn unblock(set: SignalSet) -> Option<SignalSet> {
    change_mask(SIG_UNBLOCK, set)
}

/// Sends the calling thread a signal that it was sent before, or that the kernel itself would send it.
///
/// # Errors
///
/// `EPERM` if a filter forbids it.
pub(crate) fn queue(info: &SigInfo) -> Result<(), Errno> {
    let at = core::ptr::from_ref(info).addr() as u64;
    let number = u64::from(info.signo.cast_unsigned());
    let args = [u64::from(ids::id()), u64::from(ids::thread_id()), number, at, 0, 0];
    // SAFETY: the kernel reads `info`; what the signal does is up to the program's dispositions.
    unsafe { call(sysno::RT_TGSIGQUEUEINFO, args) }.map(drop)
}

/// Changes the calling thread's mask by one of the `SIG_*`; returns the mask before, or `None` if a filter forbids it.
pub(crate) fn change_mask(how: u32, set: SignalSet) -> Option<SignalSet> {
    let mut before = SignalSet::NONE;
    let args =
        [u64::from(how), (&raw const set).addr() as u64, (&raw mut before).addr() as u64, SET_LEN, 0, 0];
    // SAFETY: the kernel reads `set` and writes `before`.
    unsafe { call(sysno::RT_SIGPROCMASK, args) }.ok()?;
    Some(before)
}
