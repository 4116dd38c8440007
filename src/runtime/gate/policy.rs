//! What the gate does with each call: a byte for each number, which every stub looks at. Zone: call.

use crate::addr::GuestAddr;
use crate::hook::interest::NUMBERS;
use core::sync::atomic::{AtomicU8, Ordering};

/// Call numbers that the policy tells apart: the low 16 bits; others alias one of them and are told apart by the hook.
pub(crate) const POLICY_LEN: usize = 1 << 16;
/// Policy of a call that is hooked.
const HOOKED: u8 = 1;
/// Policy of a call that is hooked if its filter says so when it has returned ([`crate::runtime::calls::exit_filter`]).
pub(crate) const FILTERED: u8 = 2;
/// Part of every call's policy while a thread has its calls dispatched ([`crate::runtime::backstop::guest_sud`]).
pub(crate) const DISPATCHED: u8 = 4;
/// Part of every call's policy while threads run that the backstop does not cover yet ([`crate::runtime::backstop::sud`]).
pub(crate) const UNARMED: u8 = 8;

/// By call number: 0 passes, [`FILTERED`] alone is filtered, anything else is hooked. A fork keeps it.
pub(super) static POLICY: [AtomicU8; POLICY_LEN] = [const { AtomicU8::new(0) }; POLICY_LEN];

/// Hooks the calls numbered `nr`.
pub(crate) fn hook(nr: u32) {
    set(nr, HOOKED);
}

/// Hooks the calls numbered `nr` where their filter says so.
pub(crate) fn filter(nr: u32) {
    set(nr, FILTERED);
}

fn set(nr: u32, policy: u8) {
    if let Some(byte) = POLICY.get(nr as usize % POLICY_LEN) {
        byte.fetch_or(policy, Ordering::Relaxed);
    }
}

/// Hooks every call for `reason`, which is a bit that no single call has in its policy. One caller at a time.
pub(crate) fn hook_all(reason: u8) {
    change_all(|byte| byte.fetch_or(reason, Ordering::Relaxed), |policy| policy | reason);
}

/// Takes [`hook_all`] back. One caller at a time.
pub(crate) fn unhook_all(reason: u8) {
    change_all(|byte| byte.fetch_and(!reason, Ordering::Relaxed), |policy| policy & !reason);
}

/// Changes all policies. Those of calls that there are may be changed by [`hook`] meanwhile; for the many others a locked
/// instruction each would take a millisecond.
fn change_all(shared: impl Fn(&AtomicU8) -> u8, own: impl Fn(u8) -> u8) {
    let (known, unknown) = POLICY.split_at(NUMBERS as usize);
    known.iter().for_each(|byte| {
        shared(byte);
    });
    unknown.iter().for_each(|byte| byte.store(own(byte.load(Ordering::Relaxed)), Ordering::Relaxed));
}

/// The address of the policy table.
#[must_use]
pub(crate) fn address() -> GuestAddr {
    GuestAddr((&raw const POLICY).expose_provenance() as u64)
}
