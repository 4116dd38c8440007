//! Carrying out the edits of a plan. Zone: load, and call with the patcher's lock held.

use crate::abi::errno::Errno;
use crate::addr::AddrRange;
use crate::plan::Plan;
use crate::plan::live::Change;
use crate::runtime::code::traps;
use crate::runtime::memory::code_writer;
use crate::runtime::signal::reserved;

/// Carries out the edits of a plan while threads may execute what they change. Meanwhile more traps are known; behind them
/// stands a jump, which [`traps::resolve`] finds where a trap was met just before.
pub(crate) fn change_live(plan: &Plan, is_writable: bool) -> Result<(), Errno> {
    let change = Change::of(plan, is_writable);
    let known = || plan.traps.iter().map(|site| site.at);
    let more = || change.traps.iter().filter(|site| known().all(|at| at != site.at));
    if !change.traps.is_empty() {
        reserved::reserve_trap()?;
    }
    if !more().all(|site| traps::add(site.at, site.entry)) {
        return Err(Errno::ENOMEM);
    }
    // SAFETY: the edits lie in the text, which is mapped so.
    unsafe { code_writer::change_live(&change, is_writable) }?;
    more().for_each(|site| traps::forget(AddrRange::new(site.at, site.at.wrapping_add(1))));
    Ok(())
}
