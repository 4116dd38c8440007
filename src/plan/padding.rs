//! Hands out dead padding, where a patch may put a jump: each byte once.

use alloc::vec::Vec;

use crate::addr::GuestAddr;
use crate::elf::functions::Functions;
use crate::find::site::Text;
use crate::plan::filler::{Descent, Filler, Reach};
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
    /// Where all padding is known.
    swept: Option<Reach>,
}

/// Where padding lies.
#[derive(Clone, Copy)]
enum Kind {
    /// Between functions.
    Between,
    /// Before a label of one.
    Inside,
}

/// In the order in which they are preferred.
const KINDS: [Kind; 2] = [Kind::Between, Kind::Inside];

/// Bytes for a jump.
#[derive(Clone, Copy)]
struct Place {
    kind: Kind,
    start: u64,
    end: u64,
}

/// Where a number of short jumps lead.
struct Way {
    /// Their places, in the order of travel.
    hops: heapless::Vec<Place, HOPS_MAX>,
    /// What the last of them reaches.
    reach: Reach,
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
        Self { filler, between, inside, taken: Vec::new(), swept: None }
    }

    /// Takes the bytes of a long jump, between functions, that a short jump at `from` reaches.
    pub(super) fn take_relay(&mut self, from: GuestAddr, is_free: IsFree<'_>) -> Option<GuestAddr> {
        let at = self.take_between(Reach::of(self.filler.vaddr(from))?, is_free)?;
        Some(self.filler.addr(at))
    }

    /// Takes the bytes of a long jump, wherever they are, and of as few short jumps as lead to it from one at `from`.
    ///
    /// Goes outward by one jump at a time, and looks at no place for a jump twice: one that leads to no long jump does so
    /// on no other way either.
    pub(super) fn take_chain(&mut self, from: GuestAddr, is_free: IsFree<'_>) -> Option<Chain> {
        let reach = Reach::of(self.filler.vaddr(from))?;
        if self.is_barren(reach.widened(HOPS_MAX)) {
            return None;
        }
        let mut ways = Vec::from([Way { hops: heapless::Vec::new(), reach }]);
        let mut seen = None;
        loop {
            let all = ways.iter().map(|way| way.reach).reduce(Reach::hull)?;
            let relays = self.relays(all);
            if let Some(chain) = ways.iter().find_map(|way| self.take_way(way, &relays, is_free)) {
                return Some(chain);
            }
            ways = ways.iter().flat_map(|way| self.longer_ways(way, &mut seen, is_free)).collect();
        }
    }

    /// Whether no long jump can stand in `reach`. That is looked for only where the last searches have found nothing, and
    /// a little further: padding that is not needed costs time.
    fn is_barren(&mut self, reach: Reach) -> bool {
        let is_next = self.swept.is_some_and(|swept| swept.meets(reach) && reach.highest <= swept.highest);
        if !is_next {
            return false;
        }
        self.filler.find_inside(Descent::into(reach, self.swept), &mut self.inside);
        self.filler.find_between(Descent::into(reach, self.swept), &mut self.between);
        self.note_swept(reach);
        self.relays(reach).is_empty()
    }

    /// The known runs in reach that have room for a long jump.
    fn relays(&self, reach: Reach) -> Vec<(u64, u64)> {
        let runs = KINDS.into_iter().flat_map(|kind| self.runs(kind, reach));
        runs.filter(|(start, end)| end - start >= JMP_REL32_LEN as u64).collect()
    }

    /// Takes the places of the jumps on a way, and that of a long jump behind it: one of `relays`, if there is nothing in
    /// reach that is not known.
    fn take_way(&mut self, way: &Way, relays: &[(u64, u64)], is_free: IsFree<'_>) -> Option<Chain> {
        let is_swept = self.swept.is_some_and(|swept| swept.holds(way.reach));
        let holds = |run: &(u64, u64)| {
            let place = way.reach.place(*run, JMP_REL32_LEN);
            place.is_some_and(|place| is_free(self.filler.addr(place), JMP_REL32_LEN as u64))
        };
        if is_swept && !relays.iter().any(holds) {
            return None;
        }
        self.filler.find_inside(Descent::into(way.reach, self.swept), &mut self.inside);
        let savepoint = self.savepoint();
        let has_hops = way.hops.iter().all(|hop| self.take(*hop));
        let relay = self
            .take_between(way.reach, is_free)
            .or_else(|| self.take_highest(Kind::Inside, way.reach, is_free))
            .filter(|_| has_hops);
        if relay.is_none() {
            self.roll_back(savepoint);
        }
        if relay.is_none() && has_hops {
            self.note_swept(way.reach);
        }
        let hops = way.hops.iter().map(|hop| self.filler.addr(hop.start)).collect();
        Some(Chain { hops, relay: self.filler.addr(relay?) })
    }

    /// Notes that all padding in reach is known.
    fn note_swept(&mut self, reach: Reach) {
        let next_to = self.swept.filter(|swept| swept.meets(reach));
        self.swept = Some(next_to.map_or(reach, |swept| swept.hull(reach)));
    }

    /// The ways that go on from this one with one more jump, to places that none has been `seen` to go to.
    fn longer_ways(&self, way: &Way, seen: &mut Option<Reach>, is_free: IsFree<'_>) -> Vec<Way> {
        let news = seen.map_or([way.reach, Reach::NOTHING], |seen| way.reach.without(seen));
        *seen = Some(seen.map_or(way.reach, |seen| seen.hull(way.reach)));
        let parts = KINDS.into_iter().flat_map(|kind| news.map(|part| (kind, part)));
        let places = parts.flat_map(|(kind, part)| {
            let starts = self.runs(kind, part).filter_map(|run| way.reach.place(run, JMP_REL8_LEN));
            let new = starts.filter(move |start| part.contains(*start));
            new.map(move |start| Place { kind, start, end: start + JMP_REL8_LEN as u64 })
        });
        let is_free = |place: &Place| is_free(self.filler.addr(place.start), JMP_REL8_LEN as u64);
        let longer = places.filter(is_free).filter_map(|place| {
            let mut hops = way.hops.clone();
            hops.push(place).ok()?;
            Some(Way { hops, reach: Reach::of(place.start)? })
        });
        longer.collect()
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

    /// Takes the bytes of a long jump between functions, looking no further than needed.
    fn take_between(&mut self, reach: Reach, is_free: IsFree<'_>) -> Option<u64> {
        let mut descent = Descent::into(reach, self.swept);
        loop {
            let place = self.take_highest(Kind::Between, reach, is_free);
            if place.is_some() {
                return place;
            }
            self.filler.find_next(&mut descent, &mut self.between)?;
        }
    }

    /// Takes the highest bytes in reach that hold a long jump.
    fn take_highest(&mut self, kind: Kind, reach: Reach, is_free: IsFree<'_>) -> Option<u64> {
        let place = self.places(kind, reach, JMP_REL32_LEN, is_free).next()?;
        self.take(place).then_some(place.start)
    }

    /// Returns false if it is no padding, or not any more.
    fn take(&mut self, place: Place) -> bool {
        let is_known = self.known_mut(place.kind).remove(place.start, place.end);
        if is_known {
            self.taken.push(place);
        }
        is_known
    }

    /// The highest reachable place for `len` bytes in each run, from the highest run down, if it is free.
    fn places(
        &self,
        kind: Kind,
        reach: Reach,
        len: usize,
        is_free: IsFree<'_>,
    ) -> impl Iterator<Item = Place> {
        let starts = self.runs(kind, reach).filter_map(move |run| reach.place(run, len));
        let free = starts.filter(move |start| is_free(self.filler.addr(*start), len as u64));
        free.map(move |start| Place { kind, start, end: start + len as u64 })
    }

    /// The runs that share a byte with what is reached, from the highest down.
    fn runs(&self, kind: Kind, reach: Reach) -> impl Iterator<Item = (u64, u64)> {
        self.known(kind).starting_by(reach.highest).take_while(move |(_, end)| *end > reach.lowest)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::functions::Extent;
    use crate::plan::draft::tests::{TEXT, functions_of};
    use proptest::prelude::*;

    /// The places of exactly `hops` short jumps and a long one, by going every way to its end.
    fn naive(runs: &mut Ranges, reach: Reach, hops: usize, is_free: IsFree<'_>) -> Option<Vec<u64>> {
        let len = if hops == 0 { JMP_REL32_LEN } else { JMP_REL8_LEN };
        let reached = runs.starting_by(reach.highest).take_while(|(_, end)| *end > reach.lowest);
        let places = reached.filter_map(|run| reach.place(run, len));
        let places: Vec<u64> = places.filter(|place| is_free(GuestAddr(*place), len as u64)).collect();
        places.into_iter().find_map(|place| {
            let Some(rest) = hops.checked_sub(1) else { return Some(Vec::from([place])) };
            runs.remove(place, place + len as u64);
            let behind = naive(runs, Reach::of(place)?, rest, is_free);
            runs.insert(place, place + len as u64);
            Some([Vec::from([place]), behind?].concat())
        })
    }

    proptest! {
        #[test]
        fn a_chain_is_found_where_there_is_one_and_is_as_short_as_can_be(
            lens in proptest::collection::vec((any::<u8>(), 0..4_u8), 1..60),
            wide in proptest::collection::btree_set(0..60_usize, 0..4),
            barred in proptest::option::of(0..800_u64),
        ) {
            let padded = |(index, (sort, len)): (usize, &(u8, u8))| (*sort, if wide.contains(&index) { 9 } else { *len });
            let lens: Vec<_> = lens.iter().enumerate().map(padded).collect();
            let (code, sites, symbols) = functions_of(&lens);
            let text = Text { at: TEXT, bytes: &code };
            let all = Reach { lowest: TEXT.0, highest: text.range().end.0 };
            let functions = Functions::of_symbols(&symbols, Extent { start: all.lowest, end: all.highest }, None);
            let known = |padding: &mut Padding<'_, '_>| {
                padding.filler.find_between(Descent::into(all, None), &mut padding.between);
                padding.between.clone()
            };
            let is_free = |at: GuestAddr, len: u64| {
                barred.is_none_or(|barred| !(at.0..at.0 + len).contains(&(TEXT.0 + barred)))
            };
            let mut padding = Padding::new(text, 0, &functions, &[]);
            let mut free = known(&mut Padding::new(text, 0, &functions, &[]));
            for site in sites.iter().rev() {
                let reach = Reach::of(site.opcode().0).unwrap();
                let expected = (0..=HOPS_MAX).find_map(|hops| naive(&mut free, reach, hops, &is_free));
                let found = padding.take_chain(site.opcode(), &is_free);
                let [jumps, fewest] = [found.map(|chain| chain.hops.len() + 1), expected.map(|places| places.len())];
                // A run of which a patch needs bytes may be passed over.
                prop_assert!(jumps == fewest || (barred.is_some() && (jumps.is_none() || jumps > fewest)));
                for Place { start, end, .. } in padding.taken.drain(..) {
                    prop_assert!(is_free(GuestAddr(start), end - start) && free.remove(start, end));
                }
            }
            prop_assert_eq!(known(&mut padding), free);
        }
    }
}
