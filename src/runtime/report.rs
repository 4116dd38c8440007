//! What the report is made from: filled in while code is patched, gathered when the process ends. Zone: call.
//!
//! A run without a report has no ledger and does nothing here. With one, the ledger's memory is mapped before the program
//! is, private: a forked child goes on with a copy. Names come from `/proc/self/maps`, as the kernel has them.

use crate::options;
use crate::report::json::Json;
use crate::report::ledger::{Kind, Ledger, Module, Presence};
use crate::report::{Facts, Net, Report, text};
use crate::runtime::backstop::sud::{self, Standing};
use crate::runtime::calls::io_uring;
use crate::runtime::code::{notes, patched};
use crate::runtime::gate::{layout, restorer, slots};
use crate::runtime::memory::maps;
use crate::runtime::session::Session;
use crate::runtime::session::not_followed::AsJson;
use crate::runtime::tasks;
use core::fmt;

/// Writes the report of the calling process, if there is to be one.
pub(crate) fn print(session: &Session, out: &mut dyn fmt::Write) {
    let (Some(form), Some(ledger)) = (session.report, notes::ledger()) else { return };
    let natives = AsJson(&session.tree.natives);
    let report = Report {
        facts: facts(session, look_around(ledger)),
        ledger,
        natives: tasks::is_root().then_some(&natives as &dyn fmt::Display),
    };
    // Nobody is left to hear of an error of the output.
    let _ = match form {
        options::Report::Text => write!(out, "{}", text::Text(report)),
        options::Report::Json => write!(out, "{}", Json(report)),
    };
}

fn facts(session: &Session, mappings: Option<u64>) -> Facts<'_> {
    let noted = notes::counts();
    Facts {
        process: tasks::own_id(),
        program: session.program.to_bytes(),
        intercept: session.intercept,
        is_strict: session.is_strict,
        net: match sud::standing() {
            Standing::Off => Net::Off,
            Standing::NotNeeded => Net::NotNeeded,
            Standing::Armed { why, place, since_start } => {
                let place = Some(place).filter(|place| place.0 != 0);
                Net::Armed { why: why.text(), place, since_start }
            }
            Standing::Unavailable(errno) => Net::Unavailable(errno),
        },
        caught: sud::counts(),
        writable: noted.writable,
        shared: noted.shared,
        shared_hits: noted.shared_hits,
        rings: io_uring::rings(),
        refuses_io_uring: session.refuses_io_uring,
        missed_results: slots::missed_exits(),
        stubs: (noted.highest_stub, (layout::STUBS - 1 - restorer::RESTORER_STUB).into()),
        trampolines: patched::known().trampolines() as u64,
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
