//! Hands out dead padding, where a patch may put a jump: each byte once.

use alloc::vec::Vec;

use crate::addr::GuestAddr;
use crate::elf::functions::Functions;
use crate::find::site::Text;
use crate::plan::filler::{Filler, Reach};
use crate::plan::ranges::Ranges;
use crate::x86::encode::{JMP_REL8_LEN, JMP_REL32_LEN};

/// How many short jumps lie between a site's own and the long one at most.
pub(super) const HOPS_MAX: usize = 2;

/// The padding that is known and not handed out. Addresses inside are link-time ones.
pub(super) struct Padding<'a, 'f> {
    filler: Filler<'a, 'f>,
    between: Ranges,
    inside: Ranges,
    /// What was handed out since [`Self::settle`], in that order.
    taken: Vec<Place>,
}

/// Where padding lies.
#[derive(Clone, Copy)]
enum Kind {
    /// Between functions.
    Between,
    /// Before a label of one.
    Inside,
}

/// Bytes that were handed out.
#[derive(Clone, Copy)]
struct Place {
    kind: Kind,
    start: u64,
    end: u64,
}

/// Whether no patch relies on that many bytes at an address as they are.
pub(super) type IsFree<'x> = &'x dyn Fn(GuestAddr, u64) -> bool;

/// Padding for a long jump and for the short ones that lead to it.
pub(super) struct Chain {
    /// Where the short jumps stand, in the order of travel; at most [`HOPS_MAX`].
    pub(super) hops: Vec<GuestAddr>,
    /// Where the long jump stands.
    pub(super) relay: GuestAddr,
}

impl<'a, 'f> Padding<'a, 'f> {
    pub(super) fn new(
        text: Text<'a>,
        bias: u64,
        functions: &'a Functions<'f>,
        dead_ends: &'a [GuestAddr],
    ) -> Self {
        let filler = Filler::new(text, bias, functions, dead_ends);
        let (between, inside) = (Ranges::default(), Ranges::default());
        Self { filler, between, inside, taken: Vec::new() }
    }

    /// Takes the bytes of a long jump, between functions, that a short jump at `from` reaches.
    pub(super) fn take_relay(&mut self, from: GuestAddr, is_free: IsFree<'_>) -> Option<GuestAddr> {
        let at = self.take_between(Reach::of(self.filler.vaddr(from))?, is_free)?;
        Some(self.filler.addr(at))
    }

    /// Takes the bytes of a long jump, wherever they are, and of as few short jumps as lead to it from one at `from`.
    pub(super) fn take_chain(&mut self, from: GuestAddr, is_free: IsFree<'_>) -> Option<Chain> {
        let reach = Reach::of(self.filler.vaddr(from))?;
        let mut places = (0..=HOPS_MAX).find_map(|hops| self.chain(reach, hops, is_free))?;
        let relay = places.pop()?;
        let hops = places.into_iter().map(|hop| self.filler.addr(hop)).collect();
        Some(Chain { hops, relay: self.filler.addr(relay) })
    }

    /// A moment to [`Self::roll_back`] to.
    pub(super) const fn savepoint(&self) -> usize {
        self.taken.len()
    }

    /// Takes back what was handed out since `savepoint`. What was found meanwhile stays known.
    pub(super) fn roll_back(&mut self, savepoint: usize) {
        while self.taken.len() > savepoint
            && let Some(Place { kind, start, end }) = self.taken.pop()
        {
            self.known_mut(kind).insert(start, end);
        }
    }

    /// All that was handed out so far is gone for good.
    pub(super) fn settle(&mut self) {
        self.taken.clear();
    }

    /// The places of exactly `hops` short jumps and a long one, each in reach of the one before.
    fn chain(&mut self, reach: Reach, hops: usize, is_free: IsFree<'_>) -> Option<Vec<u64>> {
        self.filler.find_inside(reach, &mut self.inside);
        let Some(rest) = hops.checked_sub(1) else {
            let between = self.take_between(reach, is_free);
            let relay = between.or_else(|| self.take_highest(Kind::Inside, reach, is_free))?;
            return Some(Vec::from([relay]));
        };
        self.find_between(reach);
        [Kind::Between, Kind::Inside].into_iter().find_map(|kind| {
            let hops: Vec<u64> = self.places(kind, reach, JMP_REL8_LEN, is_free).collect();
            hops.into_iter().find_map(|hop| self.chain_through(kind, hop, rest, is_free))
        })
    }

    /// A chain whose first short jump stands at `hop`, and `rest` more behind it.
    fn chain_through(&mut self, kind: Kind, hop: u64, rest: usize, is_free: IsFree<'_>) -> Option<Vec<u64>> {
        let savepoint = self.savepoint();
        self.take(kind, hop, JMP_REL8_LEN);
        let behind = Reach::of(hop).and_then(|reach| self.chain(reach, rest, is_free));
        if behind.is_none() {
            self.roll_back(savepoint);
        }
        Some([Vec::from([hop]), behind?].concat())
    }

    /// Takes the bytes of a long jump between functions, looking no further than needed.
    fn take_between(&mut self, reach: Reach, is_free: IsFree<'_>) -> Option<u64> {
        let mut below = reach.highest;
        loop {
            let place = self.take_highest(Kind::Between, reach, is_free);
            if place.is_some() {
                return place;
            }
            below = self.filler.find_below(below, reach, &mut self.between)?;
        }
    }

    /// Takes the highest bytes in reach that hold a long jump.
    fn take_highest(&mut self, kind: Kind, reach: Reach, is_free: IsFree<'_>) -> Option<u64> {
        let place = self.places(kind, reach, JMP_REL32_LEN, is_free).next()?;
        self.take(kind, place, JMP_REL32_LEN);
        Some(place)
    }

    fn take(&mut self, kind: Kind, start: u64, len: usize) {
        let end = start + len as u64;
        self.known_mut(kind).remove(start, end);
        self.taken.push(Place { kind, start, end });
    }

    /// The highest reachable place for `len` bytes in each run, from the highest run down, if it is free.
    fn places(&self, kind: Kind, reach: Reach, len: usize, is_free: IsFree<'_>) -> impl Iterator<Item = u64> {
        let len = len as u64;
        let runs =
            self.known(kind).starting_by(reach.highest).take_while(move |(_, end)| *end > reach.lowest);
        let places = runs.filter_map(move |(start, end)| {
            let place = end.checked_sub(len)?.min(reach.highest);
            (place >= start && place >= reach.lowest).then_some(place)
        });
        places.filter(move |place| is_free(self.filler.addr(*place), len))
    }

    /// Finds all padding between functions in reach.
    fn find_between(&mut self, reach: Reach) {
        let mut below = reach.highest;
        while let Some(next) = self.filler.find_below(below, reach, &mut self.between) {
            below = next;
        }
    }

    /// All of it.
    #[cfg(test)]
    pub(super) fn known_all(&self) -> [Ranges; 2] {
        [self.between.clone(), self.inside.clone()]
    }

    const fn known(&self, kind: Kind) -> &Ranges {
        match kind {
            Kind::Between => &self.between,
            Kind::Inside => &self.inside,
        }
    }

    const fn known_mut(&mut self, kind: Kind) -> &mut Ranges {
        match kind {
            Kind::Between => &mut self.between,
            Kind::Inside => &mut self.inside,
        }
    }
}
