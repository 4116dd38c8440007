//! The report for programs: one JSON object (RFC 8259) on one line. Addresses and offsets are numbers.

use core::fmt;

use crate::plan::Tactic;
use crate::report::ledger::{Kind, Ledger, Module, Presence};
use crate::report::left::{Left, Sort};
use crate::report::text::UNWRITTEN;
use crate::report::{Caught, Escaped, Facts, Net, Report, mode};

/// A report as JSON.
pub(crate) struct Json<'a>(pub Report<'a>);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { facts, ledger, natives } = &self.0;
        write!(f, r#"{{"process":{},"program":"{}""#, facts.process, Escaped(facts.program))?;
        write!(f, r#","intercept":"{}","strict":{}"#, mode(facts.intercept), facts.is_strict)?;
        write_net(f, facts, ledger)?;
        f.write_str(r#","modules":["#)?;
        for (index, module) in ledger.modules().iter().enumerate() {
            write_module(f, index, module)?;
            write_hits(f, ledger, index)?;
        }
        write!(f, r#"],"texts_left_out":{}"#, ledger.texts_left_out())?;
        write_facts(f, facts)?;
        if let Some(natives) = natives {
            write!(f, r#","natives":{natives}"#)?;
        }
        f.write_str("}\n")
    }
}

fn write_net(f: &mut fmt::Formatter<'_>, facts: &Facts<'_>, ledger: &Ledger) -> fmt::Result {
    let state = match facts.net {
        Net::Off => "off",
        Net::NotNeeded => "not needed",
        Net::Armed { .. } => "armed",
        Net::Unavailable(_) => "unavailable",
    };
    write!(f, r#","net":{{"state":"{state}""#)?;
    match facts.net {
        Net::Off | Net::NotNeeded => {}
        Net::Unavailable(errno) => write!(f, r#","error":"{errno}""#)?,
        Net::Armed { why, place, since_start } => {
            write!(f, r#","since_start":{since_start},"why":"{why}""#)?;
            match place.map(|at| (at, ledger.module_at(at))) {
                Some((_, Some((module, offset)))) => {
                    let (name, len) = module.name();
                    let name = Escaped(name.get(..len).unwrap_or_default());
                    write!(f, r#","module":"{name}","offset":{offset}"#)?;
                }
                Some((at, None)) => write!(f, r#","address":{}"#, at.0)?,
                None => {}
            }
            let Caught { calls, bare, patched, unarmed } = facts.caught;
            write!(f, r#","calls":{calls},"bare":{bare},"patched":{patched},"unarmed":{unarmed}"#)?;
        }
    }
    f.write_str("}")
}

/// The module but for its hits, which end it.
fn write_module(f: &mut fmt::Formatter<'_>, index: usize, module: &Module) -> fmt::Result {
    let (name, len) = module.name();
    let kind = match module.kind() {
        Kind::File => "file",
        Kind::Vdso => "vdso",
        Kind::Memory => "memory",
    };
    let comma = if index == 0 { "" } else { "," };
    write!(f, r#"{comma}{{"kind":"{kind}","name":"{}""#, Escaped(name.get(..len).unwrap_or_default()))?;
    if module.kind() != Kind::Memory {
        let range = module.range();
        let (start, end) = (range.start.0, range.end.0);
        write!(f, r#","start":{start},"end":{end},"offset":{}"#, module.offset())?;
        let is_mapped = match module.presence() {
            Presence::Unknown => "null",
            Presence::Mapped => "true",
            Presence::Gone => "false",
        };
        write!(f, r#","mapped":{is_mapped}"#)?;
    }
    f.write_str(r#","sites":{"#)?;
    for (order, tactic) in Tactic::all().enumerate() {
        let comma = if order == 0 { "" } else { "," };
        write!(f, r#"{comma}"{}":{}"#, tactic.key(), module.sites(tactic))?;
    }
    f.write_str("}")?;
    let [restorers, refused, plausible, implausible] =
        [Sort::Restorer, Sort::Refused, Sort::Plausible, Sort::Implausible].map(|sort| module.left(sort));
    write!(f, r#","restorers":{restorers},"refused":{refused}"#)?;
    write!(f, r#","unproved":{{"plausible":{plausible},"implausible":{implausible}}}"#)
}

fn write_hits(f: &mut fmt::Formatter<'_>, ledger: &Ledger, index: usize) -> fmt::Result {
    f.write_str(r#","hits":["#)?;
    for (order, (offset, left)) in ledger.hits(index).enumerate() {
        let comma = if order == 0 { "" } else { "," };
        write!(f, r#"{comma}{{"offset":{offset},"#)?;
        match left {
            Left::Unproved(unproved) => write!(
                f,
                r#""left":"unproved","plausible":{},"reason":"{}"}}"#,
                unproved.is_plausible, unproved.reason
            )?,
            Left::Refused(reason) => write!(f, r#""left":"refused","reason":"{reason}"}}"#)?,
            Left::Unwritten => write!(f, r#""left":"refused","reason":"{UNWRITTEN}"}}"#)?,
            Left::Restorer => f.write_str(r#""left":"restorer"}"#)?,
        }
    }
    f.write_str("]}")
}

fn write_facts(f: &mut fmt::Formatter<'_>, facts: &Facts<'_>) -> fmt::Result {
    let Facts { writable, shared, shared_hits, rings, refuses_io_uring, missed_results, .. } = facts;
    write!(f, r#","writable_executable":{writable}"#)?;
    write!(f, r#","shared_executable":{{"mappings":{shared},"unproved":{shared_hits}}}"#)?;
    write!(f, r#","io_uring":{{"rings":{rings},"refused":{refuses_io_uring}}}"#)?;
    let (used, all) = facts.stubs;
    write!(f, r#","results_missed":{missed_results},"stubs":{{"used":{used},"of":{all}}}"#)?;
    write!(f, r#","trampolines":{}"#, facts.trampolines)?;
    match facts.mappings {
        Some(mappings) => write!(f, r#","mappings":{mappings}"#),
        None => f.write_str(r#","mappings":null"#),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{busy, facts};
    use super::*;
    use std::string::ToString;

    #[test]
    fn says_all_that_it_is_told() {
        let ledger = busy();
        let natives = "[]";
        let json = Json(Report { facts: facts(), ledger: &ledger, natives: Some(&natives) }).to_string();
        let expected = concat!(
            r#"{"process":42,"program":"/bin/a \"b\"\n","intercept":"exhaustive","strict":true,"#,
            r#""net":{"state":"armed","since_start":true,"why":"it was asked for","calls":8,"bare":0,"#,
            r#""patched":2,"unarmed":0},"modules":["#,
            r#"{"kind":"file","name":"/lib/libc.so","start":65536,"end":131072,"offset":8192,"mapped":true,"#,
            r#""sites":{"short_jump":2,"eviction":0,"pun":0,"trap":1},"restorers":1,"refused":1,"#,
            r#""unproved":{"plausible":1,"implausible":1},"hits":[{"offset":8192,"left":"restorer"},"#,
            r#"{"offset":8208,"left":"refused","reason":"the gate has no stub left"},"#,
            r#"{"offset":8224,"left":"unproved","plausible":false,"reason":"its bytes can be read in two ways"},"#,
            r#"{"offset":8240,"left":"unproved","plausible":true,"reason":"no known function holds it"}]},"#,
            r#"{"kind":"file","name":"/lib/gone.so","start":196608,"end":200704,"offset":0,"mapped":false,"#,
            r#""sites":{"short_jump":0,"eviction":0,"pun":0,"trap":0},"restorers":0,"refused":0,"#,
            r#""unproved":{"plausible":0,"implausible":0},"hits":[]},"#,
            r#"{"kind":"memory","name":"","sites":{"short_jump":0,"eviction":1,"pun":0,"trap":0},"#,
            r#""restorers":0,"refused":1,"unproved":{"plausible":0,"implausible":0},"#,
            r#""hits":[{"offset":28672,"left":"refused","reason":"it could not be written to"}]}],"#,
            r#""texts_left_out":0,"writable_executable":1,"shared_executable":{"mappings":2,"unproved":3},"#,
            r#""io_uring":{"rings":0,"refused":false},"results_missed":4,"stubs":{"used":5,"of":65535},"#,
            r#""trampolines":6,"mappings":77,"natives":[]}"#,
            "\n"
        );
        assert_eq!(json, expected);
    }

    #[test]
    fn says_how_the_net_stands() {
        let ledger = busy();
        let part = |net| {
            let report = Report { facts: Facts { net, ..facts() }, ledger: &ledger, natives: None };
            let json = Json(report).to_string();
            let (_, rest) = json.split_once(r#""net":{"#).unwrap();
            rest.split_once('}').unwrap().0.to_string()
        };
        let armed =
            |at| Net::Armed { why: "why", place: Some(crate::addr::GuestAddr(at)), since_start: false };
        let counts = r#""calls":8,"bare":0,"patched":2,"unarmed":0"#;
        let start = r#""state":"armed","since_start":false,"why":"why","#;
        let module = r#""module":"/lib/libc.so","offset":8240,"#;
        assert_eq!(part(armed(0x1_0030)), std::format!("{start}{module}{counts}"));
        assert_eq!(part(armed(0x7000)), std::format!(r#"{start}"address":28672,{counts}"#));
        assert_eq!(part(Net::Off), r#""state":"off""#);
        assert_eq!(part(Net::NotNeeded), r#""state":"not needed""#);
        let unavailable = Net::Unavailable(crate::abi::errno::Errno::EINVAL);
        assert_eq!(part(unavailable), r#""state":"unavailable","error":"Invalid argument""#);
    }
}
