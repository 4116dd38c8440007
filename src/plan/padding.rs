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
}

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
        Self { filler, between: Ranges::default(), inside: Ranges::default() }
    }

    /// Takes the bytes of a long jump, between functions, that a short jump at `from` reaches.
    pub(super) fn take_relay(&mut self, from: GuestAddr) -> Option<GuestAddr> {
        let at = self.take_between(Reach::of(self.filler.vaddr(from))?)?;
        Some(self.filler.addr(at))
    }

    /// Takes the bytes of a long jump, wherever they are, and of as few short jumps as lead to it from one at `from`.
    pub(super) fn take_chain(&mut self, from: GuestAddr) -> Option<Chain> {
        let reach = Reach::of(self.filler.vaddr(from))?;
        let mut places = (0..=HOPS_MAX).find_map(|hops| self.chain(reach, hops))?;
        let relay = places.pop()?;
        let hops = places.into_iter().map(|hop| self.filler.addr(hop)).collect();
        Some(Chain { hops, relay: self.filler.addr(relay) })
    }

    /// The places of exactly `hops` short jumps and a long one, each in reach of the one before.
    fn chain(&mut self, reach: Reach, hops: usize) -> Option<Vec<u64>> {
        self.filler.find_inside(reach, &mut self.inside);
        let Some(hops) = hops.checked_sub(1) else {
            let between = self.take_between(reach);
            let relay = between.or_else(|| take_highest(&mut self.inside, reach))?;
            return Some(Vec::from([relay]));
        };
        self.find_between(reach);
        for hop in places(&self.between, reach, JMP_REL8_LEN) {
            self.between.remove(hop, hop + JMP_REL8_LEN as u64);
            if let Some(rest) = Reach::of(hop).and_then(|reach| self.chain(reach, hops)) {
                return Some([Vec::from([hop]), rest].concat());
            }
            self.between.insert(hop, hop + JMP_REL8_LEN as u64);
        }
        for hop in places(&self.inside, reach, JMP_REL8_LEN) {
            self.inside.remove(hop, hop + JMP_REL8_LEN as u64);
            if let Some(rest) = Reach::of(hop).and_then(|reach| self.chain(reach, hops)) {
                return Some([Vec::from([hop]), rest].concat());
            }
            self.inside.insert(hop, hop + JMP_REL8_LEN as u64);
        }
        None
    }

    /// Takes the bytes of a long jump between functions, looking no further than needed.
    fn take_between(&mut self, reach: Reach) -> Option<u64> {
        let mut below = reach.highest;
        loop {
            if let Some(place) = take_highest(&mut self.between, reach) {
                return Some(place);
            }
            below = self.filler.find_below(below, reach, &mut self.between)?;
        }
    }

    /// Finds all padding between functions in reach.
    fn find_between(&mut self, reach: Reach) {
        let mut below = reach.highest;
        while let Some(next) = self.filler.find_below(below, reach, &mut self.between) {
            below = next;
        }
    }
}

/// The highest reachable place for `len` bytes in each run, from the highest run down.
fn places(runs: &Ranges, reach: Reach, len: usize) -> Vec<u64> {
    let reached = runs.starting_by(reach.highest).take_while(|(_, end)| *end > reach.lowest);
    let places = reached.filter_map(|(start, end)| {
        let place = end.checked_sub(len as u64)?.min(reach.highest);
        (place >= start && place >= reach.lowest).then_some(place)
    });
    places.collect()
}

fn take_highest(runs: &mut Ranges, reach: Reach) -> Option<u64> {
    let place = *places(runs, reach, JMP_REL32_LEN).first()?;
    runs.remove(place, place + JMP_REL32_LEN as u64);
    Some(place)
}
