//! Why calls of the program may pass unseen: what is found while code is patched, for the backstop to deal with. Zone: call.
//!
//! Patching does not know what is done about it. It notes, and whoever holds the patcher's lock hands the notes to the
//! backstop before the code in question can run.

use crate::addr::GuestAddr;

/// Why calls may pass unseen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Reason {
    /// Nothing is known of any; the backstop is wanted all the same.
    Asked = 1,
    /// Something may be a system call instruction, and could not be proved to be one.
    Unproved,
    /// A system call instruction could not be replaced.
    Refused,
    /// Memory is writable and executable at once.
    Writable,
    /// Executable memory is shared, and others may write to it.
    Shared,
    /// The program has its own calls dispatched, those of sites that are not proved too.
    Dispatched,
}

impl Reason {
    /// All of them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Asked, Self::Unproved, Self::Refused, Self::Writable, Self::Shared, Self::Dispatched];

    /// What it is, in a few words.
    #[must_use]
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Asked => "it was asked for",
            Self::Unproved => "what may be a system call instruction is not proved",
            Self::Refused => "a system call instruction can't be replaced",
            Self::Writable => "memory is writable and executable",
            Self::Shared => "executable memory is shared",
            Self::Dispatched => "the program has its own calls dispatched",
        }
    }
}

/// Something that may make calls which nobody would see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Concern {
    /// Why.
    pub reason: Reason,
    /// Where it lies; 0 if it has no place.
    pub place: GuestAddr,
}

/// The first concern of each reason since they were taken last.
#[derive(Debug, Default)]
pub(crate) struct Concerns([Option<GuestAddr>; Reason::ALL.len()]);

impl Concerns {
    /// None.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self([None; Reason::ALL.len()])
    }

    /// Notes one.
    pub(crate) fn note(&mut self, reason: Reason, place: GuestAddr) {
        let first = Reason::ALL.into_iter().zip(&mut self.0).find(|(other, _)| *other == reason);
        if let Some((_, first)) = first {
            first.get_or_insert(place);
        }
    }

    /// Takes all of them, in the order of [`Reason`].
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Concern> + use<> {
        let places = core::mem::take(&mut self.0);
        Reason::ALL
            .into_iter()
            .zip(places)
            .filter_map(|(reason, place)| Some(Concern { reason, place: place? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn the_first_of_each_reason_is_kept_until_it_is_taken() {
        let mut concerns = Concerns::new();
        concerns.note(Reason::Refused, GuestAddr(3));
        concerns.note(Reason::Unproved, GuestAddr(1));
        concerns.note(Reason::Unproved, GuestAddr(2));
        let taken: Vec<Concern> = concerns.take().collect();
        let concern = |reason, place| Concern { reason, place: GuestAddr(place) };
        assert_eq!(taken, [concern(Reason::Unproved, 1), concern(Reason::Refused, 3)]);
        assert_eq!(concerns.take().count(), 0);
    }
}
