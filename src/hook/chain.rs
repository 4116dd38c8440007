//! Several tools as one.
//!
//! Each tool sees only the calls it is interested in, on the way in in the order given, on the way out in reverse,
//! so that tools nest like layers around the kernel. Which tools are owed an exit depends on the single
//! call, and a chain is one value for all threads: so the answer, [`Owed`], is kept by the caller, beside the call.

use core::fmt;

use super::interest::Interest;
use super::tool::{Guest, Newcomer, Tool, Verdict};
use crate::abi::call::{Call, Outcome};

/// How many tools a chain can hold: one bit of [`Owed`] each.
pub const MAX_TOOLS: usize = u32::BITS as usize;

/// A tool with its answer to [`Tool::interest`], which is asked only once.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    tool: &'a dyn Tool,
    interest: Interest,
}

impl<'a> Member<'a> {
    /// Asks `tool` for its interest.
    #[must_use]
    pub fn new(tool: &'a dyn Tool) -> Self {
        Self { tool, interest: tool.interest() }
    }
}

/// Which tools of a chain are to see the exit of one call: bit `n` is the `n`th tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Owed(pub u32);

impl Owed {
    /// Whether no tool is to see it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Tools in the order in which they see a call.
#[derive(Clone, Copy)]
pub struct Chain<'a> {
    members: &'a [Member<'a>],
}

impl<'a> Chain<'a> {
    /// The chain of no tools.
    pub const EMPTY: Self = Self { members: &[] };

    /// The chain of `members`, first to last, or `None` if they are more than [`MAX_TOOLS`].
    #[must_use]
    pub const fn new(members: &'a [Member<'a>]) -> Option<Self> {
        if members.len() <= MAX_TOOLS { Some(Self { members }) } else { None }
    }

    /// The calls that any tool wants to see.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.members.iter().fold(Interest::NONE, |all, member| all.union(&member.interest))
    }

    /// Runs the `enter` of each interested tool, until one answers; tools after that one don't see the call.
    ///
    /// The returned [`Owed`] is to be kept with the call and given to [`exit`](Self::exit); it is empty for
    /// [`Verdict::Pass`] only. A tool that changes the number decides thereby which later tools see the call.
    pub fn enter(&self, call: &mut Call, guest: &dyn Guest) -> (Verdict, Owed) {
        let mut owed = Owed::default();
        for (bit, member) in self.bits() {
            if !member.interest.contains(call.nr) {
                continue;
            }
            match member.tool.enter(call, guest) {
                Verdict::Pass => {}
                Verdict::PassThenExit => owed.0 |= bit,
                Verdict::Answer(outcome) => {
                    owed.0 |= bit;
                    return (Verdict::Answer(outcome), owed);
                }
            }
        }
        let verdict = if owed.is_empty() { Verdict::Pass } else { Verdict::PassThenExit };
        (verdict, owed)
    }

    /// Runs the `exit` of each tool in `owed`, last to first; each sees the outcome that the ones before it left.
    pub fn exit(&self, owed: Owed, call: &Call, outcome: &mut Outcome, guest: &dyn Guest) {
        for (bit, member) in self.bits().rev() {
            if owed.0 & bit != 0 {
                member.tool.exit(call, outcome, guest);
            }
        }
    }

    /// Tells each tool of a newcomer, first to last.
    pub fn started(&self, newcomer: Newcomer<'_>, guest: &dyn Guest) {
        for member in self.members {
            member.tool.started(newcomer, guest);
        }
    }

    /// Runs the `finish` of each tool, first to last.
    pub fn finish(&self, out: &mut dyn fmt::Write) {
        for member in self.members {
            member.tool.finish(out);
        }
    }

    fn bits(&self) -> impl DoubleEndedIterator<Item = (u32, &Member<'a>)> {
        // Not zipped with a longer range: going backwards that is first shortened step by step, on the way of each call.
        self.members.iter().enumerate().map(|(index, member)| (1 << index, member))
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::*;
    use crate::abi::errno::Errno;
    use crate::hook::fake::FakeGuest;

    const GUEST_AT: u64 = 0x1000;

    /// Says through the program's output when it runs.
    struct Witness {
        name: &'static str,
        interest: Interest,
        verdict: Verdict,
        becomes: Option<u32>,
    }

    impl Witness {
        const fn new(name: &'static str, verdict: Verdict) -> Self {
            Self { name, interest: Interest::ALL, verdict, becomes: None }
        }
    }

    impl Tool for Witness {
        fn interest(&self) -> Interest {
            self.interest
        }

        fn enter(&self, call: &mut Call, guest: &dyn Guest) -> Verdict {
            guest.emit(std::format!("{}>{} ", self.name, call.nr).as_bytes());
            call.nr = self.becomes.unwrap_or(call.nr);
            self.verdict
        }

        fn exit(&self, call: &Call, outcome: &mut Outcome, guest: &dyn Guest) {
            guest.emit(std::format!("{}<{}={} ", self.name, call.nr, outcome.0).as_bytes());
            outcome.0 = outcome.0.wrapping_add(1);
        }

        fn finish(&self, out: &mut dyn fmt::Write) {
            let _ = out.write_str(self.name);
        }
    }

    /// Runs one call through the tools and returns the verdict and what the tools saw.
    fn run(nr: u32, tools: &[&dyn Tool]) -> (Verdict, String) {
        let members: Vec<_> = tools.iter().map(|tool| Member::new(*tool)).collect();
        let chain = Chain::new(&members).unwrap();
        let guest = FakeGuest::new(GUEST_AT, &[]);
        let mut call = Call { nr, args: [0; 6] };
        let (verdict, owed) = chain.enter(&mut call, &guest);
        assert_eq!(owed.is_empty(), verdict == Verdict::Pass);
        let mut outcome = if let Verdict::Answer(outcome) = verdict { outcome } else { Outcome(70) };
        chain.exit(owed, &call, &mut outcome, &guest);
        (verdict, guest.take_emitted())
    }

    #[test]
    fn tools_nest_around_the_kernel() {
        let (a, b) = (Witness::new("a", Verdict::PassThenExit), Witness::new("b", Verdict::PassThenExit));
        let (verdict, seen) = run(1, &[&a, &b]);
        assert_eq!(verdict, Verdict::PassThenExit);
        assert_eq!(seen, "a>1 b>1 b<1=70 a<1=71 ");
    }

    #[test]
    fn only_those_that_asked_see_the_exit() {
        let (a, b) = (Witness::new("a", Verdict::PassThenExit), Witness::new("b", Verdict::Pass));
        assert_eq!(run(1, &[&a, &b]), (Verdict::PassThenExit, "a>1 b>1 a<1=70 ".into()));
        assert_eq!(run(1, &[&b]), (Verdict::Pass, "b>1 ".into()));
    }

    #[test]
    fn after_an_answer_later_tools_see_neither_entry_nor_exit() {
        let answer = Verdict::Answer(Outcome::failure(Errno::EPERM));
        let (a, b) = (Witness::new("a", Verdict::PassThenExit), Witness::new("b", answer));
        let c = Witness::new("c", Verdict::PassThenExit);
        let (verdict, seen) = run(1, &[&a, &b, &c]);
        assert_eq!(verdict, answer);
        assert_eq!(seen, "a>1 b>1 b<1=18446744073709551615 a<1=0 ");
    }

    #[test]
    fn a_tool_sees_only_what_it_asked_for_after_changes() {
        let a = Witness { becomes: Some(2), ..Witness::new("a", Verdict::Pass) };
        let b = Witness { interest: Interest::of(&[1]), ..Witness::new("b", Verdict::PassThenExit) };
        let c = Witness { interest: Interest::of(&[2]), ..Witness::new("c", Verdict::PassThenExit) };
        assert_eq!(run(1, &[&a, &b, &c]).1, "a>1 c>2 c<2=70 ");
    }

    #[test]
    fn the_empty_tool_and_the_empty_chain_see_nothing() {
        assert_eq!(run(1, &[&()]), (Verdict::Pass, String::new()));
        assert!(Chain::EMPTY.interest().is_empty());
        assert_eq!(run(1, &[]), (Verdict::Pass, String::new()));
    }

    #[test]
    fn wants_what_any_member_wants_and_finishes_in_order() {
        let a = Witness { interest: Interest::of(&[1]), ..Witness::new("a", Verdict::Pass) };
        let b = Witness { interest: Interest::of(&[600]), ..Witness::new("b", Verdict::Pass) };
        let members = [Member::new(&a), Member::new(&b)];
        let chain = Chain::new(&members).unwrap();
        assert_eq!(chain.interest(), Interest::of(&[1, 600]));
        let mut text = String::new();
        chain.finish(&mut text);
        assert_eq!(text, "ab");
    }

    #[test]
    fn holds_as_many_tools_as_it_has_bits_and_no_more() {
        let tool = Witness::new("t", Verdict::PassThenExit);
        let members = [Member::new(&tool); MAX_TOOLS + 1];
        assert!(Chain::new(&members).is_none());
        let chain = Chain::new(&members[1..]).unwrap();
        let guest = FakeGuest::new(GUEST_AT, &[]);
        let (_, owed) = chain.enter(&mut Call { nr: 0, args: [0; 6] }, &guest);
        assert_eq!(owed, Owed(u32::MAX));
    }
}
