//! The report for people: a heading, a line a module with what is left of it below, and the counts.

use core::fmt;

use crate::plan::Tactic;
use crate::report::ledger::{Kind, Ledger, Module, Presence};
use crate::report::left::{Left, Sort};
use crate::report::{Caught, Escaped, Facts, Net, Report, mode};

/// Hits of a module that are listed.
const LISTED: usize = 16;

/// A report as text.
pub(crate) struct Text<'a>(pub Report<'a>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { facts, ledger, .. } = &self.0;
        let strict = if facts.is_strict { ", strict" } else { "" };
        writeln!(f, "report of process {}: {}", facts.process, Escaped(facts.program))?;
        writeln!(f, "  intercept: {}{strict}", mode(facts.intercept))?;
        write_net(f, facts, ledger)?;
        for (index, module) in ledger.modules().iter().enumerate() {
            write_module(f, module)?;
            write_hits(f, ledger, index, module)?;
        }
        match ledger.texts_left_out() {
            0 => {}
            more => writeln!(f, "  {more} more texts of which nothing is known")?,
        }
        write_facts(f, facts)
    }
}

fn write_net(f: &mut fmt::Formatter<'_>, facts: &Facts<'_>, ledger: &Ledger) -> fmt::Result {
    f.write_str("  net: ")?;
    match facts.net {
        Net::Off => return f.write_str("off\n"),
        Net::NotNeeded => return f.write_str("not needed\n"),
        Net::Unavailable(errno) => return writeln!(f, "unavailable: {errno}"),
        Net::Armed { why, place, since_start } => {
            write!(f, "armed{}: {why}", if since_start { " since the start" } else { "" })?;
            match place.map(|at| (at, ledger.module_at(at))) {
                Some((_, Some((module, offset)))) => {
                    let (name, len) = module.name();
                    write!(f, " at {}+{offset:#x}", Escaped(name.get(..len).unwrap_or_default()))?;
                }
                Some((at, None)) => write!(f, " at {:#x}", at.0)?,
                None => {}
            }
        }
    }
    let Caught { calls, bare, patched, unarmed } = facts.caught;
    write!(f, ", {}", Count(calls, "call"))?;
    let counts = [(bare, "made without a stub"), (patched, "patched afterwards"), (unarmed, "not armed")];
    for (count, name) in counts.into_iter().filter(|(count, _)| *count != 0) {
        write!(f, ", {count} {name}")?;
    }
    writeln!(f)
}

fn write_module(f: &mut fmt::Formatter<'_>, module: &Module) -> fmt::Result {
    let (name, len) = module.name();
    let name = name.get(..len).unwrap_or_default();
    match module.kind() {
        Kind::Memory if name.is_empty() => f.write_str("  memory")?,
        Kind::Memory => write!(f, "  memory {}", Escaped(name))?,
        Kind::File | Kind::Vdso => {
            let range = module.range();
            write!(f, "  {} {:#x}-{:#x}", Escaped(name), range.start.0, range.end.0)?;
        }
    }
    if module.presence() == Presence::Gone {
        f.write_str(", unmapped")?;
    }
    write!(f, ": {}", Count(module.all_sites().into(), "site"))?;
    let mut mark = " (";
    for tactic in Tactic::all().filter(|tactic| module.sites(*tactic) != 0) {
        write!(f, "{mark}{} {}", module.sites(tactic), tactic.name())?;
        mark = ", ";
    }
    if mark == ", " {
        f.write_str(")")?;
    }
    let sorts = [
        (Sort::Restorer, "restorer"),
        (Sort::Refused, "refused"),
        (Sort::Plausible, "unproved and plausible"),
        (Sort::Implausible, "unproved"),
    ];
    for (sort, name) in sorts.into_iter().filter(|(sort, _)| module.left(*sort) != 0) {
        match sort {
            Sort::Restorer => write!(f, ", {}", Count(module.left(sort).into(), name))?,
            _ => write!(f, ", {} {name}", module.left(sort))?,
        }
    }
    writeln!(f)
}

/// Lists what would pass unseen, what reads as code first.
fn write_hits(f: &mut fmt::Formatter<'_>, ledger: &Ledger, index: usize, module: &Module) -> fmt::Result {
    let sorts = [Sort::Refused, Sort::Plausible, Sort::Implausible];
    let of_sort = |sort| ledger.hits(index).filter(move |(_, left)| left.sort() == sort);
    let mut listed = 0;
    for (offset, left) in sorts.into_iter().flat_map(of_sort).take(LISTED) {
        let sign = if module.kind() == Kind::Memory { "" } else { "+" };
        write!(f, "    {sign}{offset:#x} ")?;
        match left {
            Left::Unproved(unproved) => {
                let looks = if unproved.is_plausible { "code" } else { "data" };
                writeln!(f, "unproved, reads as {looks}: {}", unproved.reason)?;
            }
            Left::Refused(reason) => writeln!(f, "refused: {reason}")?,
            Left::Unwritten => writeln!(f, "refused: {UNWRITTEN}")?,
            Left::Restorer => {}
        }
        listed += 1;
    }
    let all = sorts.into_iter().map(|sort| module.left(sort)).fold(0, u32::saturating_add);
    match all.saturating_sub(listed) {
        0 => Ok(()),
        more => writeln!(f, "    and {more} more"),
    }
}

/// Why a proved site is left that no [`crate::plan::RefusalReason`] speaks of.
pub(super) const UNWRITTEN: &str = "it could not be written to";

fn write_facts(f: &mut fmt::Formatter<'_>, facts: &Facts<'_>) -> fmt::Result {
    writeln!(f, "  writable and executable at once: {}", Count(facts.writable, "request"))?;
    write!(f, "  shared and executable: {}", Count(facts.shared, "mapping"))?;
    match facts.shared_hits {
        0 => writeln!(f)?,
        hits => writeln!(f, ", {hits} unproved")?,
    }
    match (facts.rings, facts.refuses_io_uring) {
        (_, true) => writeln!(f, "  io_uring: refused")?,
        (rings, false) => writeln!(f, "  io_uring: {}", Count(rings, "ring"))?,
    }
    writeln!(f, "  results missed: {}", facts.missed_results)?;
    let (used, all) = facts.stubs;
    write!(f, "  stubs: {used} of {all}, stretches of trampolines: {}", facts.trampolines)?;
    match facts.mappings {
        Some(mappings) => writeln!(f, ", mappings: {mappings}"),
        None => writeln!(f, ", mappings: unknown"),
    }
}

/// A number and what is counted.
struct Count(u64, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{busy, facts};
    use super::*;
    use crate::find::site::Reason;
    use crate::report::ledger::tests::{file, ledger, unproved};
    use std::string::ToString;

    #[test]
    fn says_all_that_it_is_told() {
        let ledger = busy();
        let text = Text(Report { facts: facts(), ledger: &ledger, natives: None }).to_string();
        let expected = "report of process 42: /bin/a \\\"b\\\"\\n\n\
            \x20 intercept: exhaustive, strict\n\
            \x20 net: armed since the start: it was asked for, 8 calls, 2 patched afterwards\n\
            \x20 /lib/libc.so 0x10000-0x20000: 3 sites (2 by short jump, 1 by trap), 1 restorer, 1 refused, \
            1 unproved and plausible, 1 unproved\n\
            \x20   +0x2010 refused: the gate has no stub left\n\
            \x20   +0x2030 unproved, reads as code: no known function holds it\n\
            \x20   +0x2020 unproved, reads as data: its bytes can be read in two ways\n\
            \x20 /lib/gone.so 0x30000-0x31000, unmapped: 0 sites\n\
            \x20 memory: 1 site (1 by eviction), 1 refused\n\
            \x20   0x7000 refused: it could not be written to\n\
            \x20 writable and executable at once: 1 request\n\
            \x20 shared and executable: 2 mappings, 3 unproved\n\
            \x20 io_uring: 0 rings\n\
            \x20 results missed: 4\n\
            \x20 stubs: 5 of 65535, stretches of trampolines: 6, mappings: 77\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn of_many_hits_the_first_are_listed() {
        let ledger = ledger();
        let index = ledger.look(&file(b"/a", 0, 0x1000, 0x1000)).unwrap();
        (0..LISTED as u64 + 3).for_each(|at| ledger.leave(index, at, unproved(Reason::Overlap, false)));
        ledger.leave(index, 0x99, unproved(Reason::Overlap, true));
        let text = Text(Report { facts: facts(), ledger: &ledger, natives: None }).to_string();
        assert_eq!(text.matches("    +").count(), LISTED);
        assert!(text.contains("\n    +0x99 unproved, reads as code") && text.contains("\n    and 4 more\n"));
    }

    #[test]
    fn says_how_the_net_stands() {
        let ledger = busy();
        let line = |net, caught| {
            let report = Report { facts: Facts { net, caught, ..facts() }, ledger: &ledger, natives: None };
            Text(report).to_string().lines().nth(2).unwrap().to_string()
        };
        let armed =
            |at| Net::Armed { why: "why", place: Some(crate::addr::GuestAddr(at)), since_start: false };
        let caught = Caught { calls: 1, bare: 3, patched: 0, unarmed: 4 };
        assert_eq!(
            line(armed(0x1_0030), caught),
            "  net: armed: why at /lib/libc.so+0x2030, 1 call, 3 made without a stub, 4 not armed"
        );
        assert_eq!(line(armed(0x7000), Caught::default()), "  net: armed: why at 0x7000, 0 calls");
        assert_eq!(line(Net::Off, caught), "  net: off");
        assert_eq!(line(Net::NotNeeded, caught), "  net: not needed");
        let unavailable = Net::Unavailable(crate::abi::errno::Errno::EINVAL);
        assert_eq!(line(unavailable, caught), "  net: unavailable: Invalid argument");
    }

    #[test]
    fn what_is_not_known_is_said() {
        let ledger = ledger();
        let facts = Facts { mappings: None, refuses_io_uring: true, ..facts() };
        let text = Text(Report { facts, ledger: &ledger, natives: None }).to_string();
        assert!(text.contains("mappings: unknown\n") && text.contains("io_uring: refused\n"), "{text}");
    }
}
