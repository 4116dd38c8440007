//! What the report is made from: filled in while code is patched, gathered when the process ends. Zone: call.
//!
//! A run without a report has no ledger and does nothing here. With one, the ledger's memory is mapped before the program
//! is, private: a forked child goes on with a copy. Names come from `/proc/self/maps`, as the kernel has them.

use crate::options;
use crate::report::json::Json;
use crate::report::ledger::{Kind, Ledger, Module, Presence};
use crate::report::{Caught, Facts, Net, Report, text};
use crate::runtime::backstop::sud::{self, Standing};
use crate::runtime::code::notes;
use crate::runtime::gate::{layout, restorer};
use crate::runtime::memory::maps;
use crate::runtime::session::Frozen;
use crate::runtime::session::not_followed::AsJson;
use crate::runtime::state::STATE;
use crate::runtime::tasks;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Writes the report of the calling process, if there is to be one.
pub fn print(frozen: &Frozen, out: &mut dyn fmt::Write) {
    let (Some(form), Some(ledger)) = (frozen.report, notes::ledger()) else { return };
    let natives = AsJson(&frozen.tree.natives);
    let report = Report {
        facts: facts(frozen, look_around(ledger)),
        ledger,
        natives: tasks::is_root().then_some(&natives as &dyn fmt::Display),
    };
    // Nobody is left to hear of an error of the output.
    let _ = match form {
        options::Report::Text => write!(out, "{}", text::Text(report)),
        options::Report::Json => write!(out, "{}", Json(report)),
    };
}

fn facts(frozen: &Frozen, mappings: Option<u64>) -> Facts<'_> {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Facts {
        process: tasks::own_id(),
        program: frozen.program.to_bytes(),
        intercept: frozen.intercept,
        is_strict: frozen.is_strict,
        net: match sud::standing() {
            Standing::Off => Net::Off,
            Standing::NotNeeded => Net::NotNeeded,
            Standing::Out { why, place, since_start } => {
                let place = Some(place).filter(|place| place.0 != 0);
                Net::Armed { why: why.text(), place, since_start }
            }
            Standing::Unavailable(errno) => Net::Unavailable(errno),
        },
        caught: Caught {
            calls: count(&STATE.net.served),
            bare: count(&STATE.net.bare),
            patched: count(&STATE.net.patched),
            unarmed: count(&STATE.net.unarmed),
        },
        writable: count(&STATE.noted.writable),
        shared: count(&STATE.noted.shared),
        shared_hits: count(&STATE.noted.shared_hits),
        rings: count(&STATE.rings),
        refuses_io_uring: frozen.refuses_io_uring,
        missed_results: count(&STATE.missed_exits),
        stubs: (count(&STATE.noted.stubs), (layout::STUBS - 1 - restorer::RESTORER_STUB).into()),
        trampolines: STATE.patched.trampolines() as u64,
        mappings,
    }
}

/// Notes which modules are still mapped; returns how many mappings there are, if the kernel says.
fn look_around(ledger: &Ledger) -> Option<u64> {
    let modules = || ledger.modules().iter().filter(|module| module.kind() != Kind::Memory);
    modules().for_each(|module| module.set_presence(Presence::Gone));
    let mut mappings = 0;
    let seen = maps::each_line(&mut |line| {
        mappings += 1;
        let is_it = |module: &&Module| module.inode() == line.inode && module.range().overlaps(&line.range);
        if line.protection.executable() {
            modules().filter(is_it).for_each(|module| module.set_presence(Presence::Mapped));
        }
        true
    });
    if seen.is_err() {
        modules().for_each(|module| module.set_presence(Presence::Unknown));
    }
    seen.is_ok().then_some(mappings)
}
