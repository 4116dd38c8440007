//! Sees every call and does nothing: what it adds to a call is what hooking costs.

use core::fmt;

use crate::abi::call::{Call, Outcome};
use crate::hook::interest::Interest;
use crate::hook::tool::{Guest, Tool, Verdict};

/// The tool that does nothing with every call; `()` is the one that sees none.
pub(crate) struct Empty;

impl Tool for Empty {
    fn interest(&self) -> Interest {
        Interest::ALL
    }

    fn enter(&self, _: &mut Call, _: &dyn Guest) -> Verdict {
        Verdict::Pass
    }

    fn exit(&self, _: &Call, _: &mut Outcome, _: &dyn Guest) {}

    fn finish(&self, _: &mut dyn fmt::Write) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::fake::FakeGuest;

    #[test]
    fn sees_every_call_and_changes_none() {
        let guest = FakeGuest::new(0, &[]);
        for nr in [0, 511, u32::MAX] {
            assert!(Empty.interest().contains(nr));
            let asked = Call { nr, args: [1, 2, 3, 4, 5, 6] };
            let mut call = asked;
            assert_eq!(Empty.enter(&mut call, &guest), Verdict::Pass);
            assert_eq!(call, asked);
        }
        assert!(guest.take_emitted().is_empty());
    }
}
