//! Why hits are left as they are, and what they are counted as.

use crate::find::site::{Reason, Unproved};
use crate::plan::RefusalReason;

/// Why a hit is as the program's file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// It is neither proved nor disproved.
    Unproved(Unproved),
    /// It is proved and can't be replaced.
    Refused(RefusalReason),
    /// It is proved, and writing to it failed.
    Unwritten,
    /// Unwinders look for its bytes.
    Restorer,
}

/// A sort of [`Left`] that is counted by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sort {
    /// Left for unwinders.
    Restorer,
    /// Proved, and not replaced.
    Refused,
    /// Not proved, and reads as code.
    Plausible,
    /// Not proved, and reads as data.
    Implausible,
}

impl Sort {
    pub(super) const ALL: [Self; 4] = [Self::Restorer, Self::Refused, Self::Plausible, Self::Implausible];
}

const REASONS: [Reason; 5] =
    [Reason::NoAnchor, Reason::Unreached, Reason::Undecodable, Reason::Overlap, Reason::TooLarge];
const REFUSALS: [RefusalReason; 4] =
    [RefusalReason::NotThere, RefusalReason::Taken, RefusalReason::NoStub, RefusalReason::GateTooWide];

impl Left {
    const UNWRITTEN: u8 = 0x20;
    const RESTORER: u8 = 0x21;

    /// As a number.
    pub(super) fn code(self) -> u8 {
        let index = |found: Option<usize>| found.map_or(0, |index| index as u8);
        match self {
            Self::Unproved(Unproved { reason, is_plausible }) => {
                index(REASONS.iter().position(|it| *it == reason)) << 1 | u8::from(is_plausible)
            }
            Self::Refused(reason) => 0x10 | index(REFUSALS.iter().position(|it| *it == reason)),
            Self::Unwritten => Self::UNWRITTEN,
            Self::Restorer => Self::RESTORER,
        }
    }

    pub(super) fn of_code(code: u8) -> Option<Self> {
        let index = code as usize & 0xf;
        match code {
            0..0x10 => {
                let reason = *REASONS.get(index >> 1)?;
                Some(Self::Unproved(Unproved { reason, is_plausible: code & 1 != 0 }))
            }
            0x10..0x20 => REFUSALS.get(index).map(|reason| Self::Refused(*reason)),
            Self::UNWRITTEN => Some(Self::Unwritten),
            Self::RESTORER => Some(Self::Restorer),
            _ => None,
        }
    }

    /// What it is counted as.
    #[must_use]
    pub(crate) const fn sort(self) -> Sort {
        match self {
            Self::Restorer => Sort::Restorer,
            Self::Refused(_) | Self::Unwritten => Sort::Refused,
            Self::Unproved(Unproved { is_plausible: true, .. }) => Sort::Plausible,
            Self::Unproved(_) => Sort::Implausible,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_read_back() {
        let unproved = REASONS.into_iter().flat_map(|reason| {
            [true, false].map(|is_plausible| Left::Unproved(Unproved { reason, is_plausible }))
        });
        let refused = REFUSALS.into_iter().map(Left::Refused);
        for left in unproved.chain(refused).chain([Left::Unwritten, Left::Restorer]) {
            assert_eq!(Left::of_code(left.code()), Some(left));
        }
        assert_eq!(Left::of_code(0xff), None);
    }
}
