//! A plan in the making: what is locked, what is taken, and the steps that every tactic is made of.
//!
//! A tactic may take its steps as it goes and find half-way that it does not fit. Whoever tries one does so in
//! [`Draft::attempt`], which undoes all of them then.

use crate::addr::{AddrRange, GuestAddr, PAGE};
use crate::find::site::Text;
use crate::plan::padding::{Chain, Padding};
use crate::plan::request::{Decision, Request};
use crate::plan::space::Space;
use crate::plan::stub::{self, Again};
use crate::plan::{Bytes, Edit, Gate, Input, Plan, Stub, TRAMPOLINE_LEN, Tactic, Trampoline, TrapSite};
use crate::x86::decode::Decoder;
use crate::x86::encode::{self, JMP_REL32_LEN};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// A plan in the making.
pub(super) struct Draft<'a, 'f> {
    pub(super) text: Text<'a>,
    pub(super) decoder: Decoder<'a>,
    padding: Padding<'a, 'f>,
    gate: Gate,
    near: Option<AddrRange>,
    space: &'a mut Space,
    /// Bytes that a patch writes or relies on: start to end.
    locked: BTreeMap<GuestAddr, GuestAddr>,
    /// Pages that trampolines were put into where jumps point, and that have room for more.
    opened: BTreeSet<GuestAddr>,
    /// What was done to `space`, `locked` and `opened` for the site at hand.
    done: Vec<Done>,
    pub(super) plan: Plan,
}

/// A step that leaves its trace elsewhere than at the end of a list.
enum Done {
    /// The range was taken out of the space.
    Took(AddrRange),
    /// The bytes from an address on were locked; as far as it says, they had been already.
    Locked(GuestAddr, Option<GuestAddr>),
    /// The page was opened.
    Opened(GuestAddr),
    /// The page has no room any more.
    Filled(GuestAddr),
}

/// A moment of a draft.
struct Savepoint {
    near: Option<AddrRange>,
    padding: usize,
    done: usize,
    edits: usize,
    traps: usize,
    trampolines: usize,
}

impl<'a, 'f> Draft<'a, 'f> {
    /// Nothing is planned yet of what `input` asks for.
    pub(super) fn new(input: Input<'a, 'f>) -> Self {
        let Input { text, sites, bias, functions, dead_ends, gate, stubs: _, near, space } = input;
        Self {
            text,
            decoder: Decoder::new(text.bytes, text.at),
            padding: Padding::new(text, bias, functions, dead_ends),
            gate,
            near,
            space,
            locked: BTreeMap::new(),
            opened: BTreeSet::new(),
            done: Vec::new(),
            // Their final lengths, or nearly: growing would leave every size behind that they have been.
            plan: Plan {
                stubs: Vec::with_capacity(sites.len()),
                edits: Vec::with_capacity(2 * sites.len()),
                ..Plan::default()
            },
        }
    }

    /// Begins with the next site: what was done for the last one stays.
    pub(super) fn begin(&mut self) {
        self.done.clear();
        self.padding.settle();
    }

    /// The stub of a site for which a tactic has decided; `None` if the gate can't hold such a one.
    pub(super) fn stub(&self, request: &Request<'_>, tactic: Tactic, decision: &Decision) -> Option<Stub> {
        let (site, at, evicted) = (request.site, request.stub, decision.evicted);
        let bytes = stub::build(&stub::Fields {
            at,
            instruction: request.instruction,
            evicted: &decision.moved,
            policy: self.gate.policy,
            hooked: self.gate.hooked,
            back: site.back(),
            site_len: site.len,
            again: evicted.map_or(Again::Site, |evicted| evicted.again),
        })?;
        Some(Stub { at, bytes, site: *site, tactic, evicted })
    }

    /// Takes the steps that `steps` takes, or none if that comes to nothing.
    pub(super) fn attempt<T>(&mut self, steps: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let before = self.savepoint();
        let result = steps(self);
        if result.is_none() {
            self.roll_back(&before);
        }
        result
    }

    const fn savepoint(&self) -> Savepoint {
        Savepoint {
            near: self.near,
            padding: self.padding.savepoint(),
            done: self.done.len(),
            edits: self.plan.edits.len(),
            traps: self.plan.traps.len(),
            trampolines: self.plan.trampolines.len(),
        }
    }

    fn roll_back(&mut self, before: &Savepoint) {
        self.near = before.near;
        self.padding.roll_back(before.padding);
        self.plan.edits.truncate(before.edits);
        self.plan.traps.truncate(before.traps);
        self.plan.trampolines.truncate(before.trampolines);
        while self.done.len() > before.done
            && let Some(done) = self.done.pop()
        {
            match done {
                Done::Took(range) => self.space.give_back(range),
                Done::Opened(page) => drop(self.opened.remove(&page)),
                Done::Filled(page) => drop(self.opened.insert(page)),
                Done::Locked(at, None) => drop(self.locked.remove(&at)),
                Done::Locked(at, Some(end)) => drop(self.locked.insert(at, end)),
            }
        }
    }

    /// Whether no patch writes or relies on any of `len` bytes.
    pub(super) fn is_free(&self, at: GuestAddr, len: u64) -> bool {
        is_free(&self.locked, at, len)
    }

    /// Keeps `len` bytes as they are, or as they will be.
    pub(super) fn lock(&mut self, at: GuestAddr, len: u64) {
        let before = self.locked.insert(at, at.wrapping_add(len));
        self.done.push(Done::Locked(at, before));
    }

    /// Plans to write `new`; the bytes must be free and inside the text.
    pub(super) fn edit(&mut self, at: GuestAddr, new: &[u8]) -> Option<()> {
        let old = Bytes::from_slice(self.text.slice(at, new.len())?).ok()?;
        let new = Bytes::from_slice(new).ok()?;
        self.lock(at, new.len() as u64);
        self.plan.edits.push(Edit { at, old, new });
        Some(())
    }

    pub(super) fn trap(&mut self, at: GuestAddr, entry: GuestAddr) {
        self.plan.traps.push(TrapSite { at, entry });
    }

    /// Takes padding between functions for a long jump that a short one at `from` reaches.
    pub(super) fn take_relay(&mut self, from: GuestAddr) -> Option<Chain> {
        let relay = self.padding.take_relay(from, &|at, len| is_free(&self.locked, at, len))?;
        Some(Chain { hops: Vec::new(), relay })
    }

    /// Takes padding for a long jump, and for as few short ones as lead to it from `from`.
    pub(super) fn take_chain(&mut self, from: GuestAddr) -> Option<Chain> {
        self.padding.take_chain(from, &|at, len| is_free(&self.locked, at, len))
    }

    /// Plans a trampoline in the near area.
    pub(super) fn trampoline(&mut self, at: GuestAddr, bytes: &[u8]) -> Option<()> {
        self.plan.trampolines.push(Trampoline { at, bytes: Bytes::from_slice(bytes).ok()? });
        Some(())
    }

    /// Plans a trampoline where a jump points.
    pub(super) fn landing(&mut self, at: GuestAddr, bytes: &[u8]) -> Option<()> {
        self.trampoline(at, bytes)?;
        let page = at.page_floor();
        let has_room = self.space.free_from(page).is_some_and(|free| free.page_floor() == page);
        if has_room && self.opened.insert(page) {
            self.done.push(Done::Opened(page));
        } else if !has_room && self.opened.remove(&page) {
            self.done.push(Done::Filled(page));
        }
        Some(())
    }

    /// The lowest address from `at` on where a trampoline may lie, and all addresses.
    pub(super) fn free_from(&self, at: GuestAddr) -> Option<(GuestAddr, AddrRange)> {
        let all = AddrRange { start: GuestAddr(0), end: GuestAddr(u64::MAX) };
        Some((self.space.free_from(at)?, all))
    }

    /// The lowest such address in a page that holds trampolines where jumps point, and that page.
    pub(super) fn opened_from(&self, at: GuestAddr) -> Option<(GuestAddr, AddrRange)> {
        let mut free = self.space.free_from(at)?;
        loop {
            let page = *self.opened.range(free.page_floor()..).next()?;
            if page <= free {
                return Some((free, AddrRange { start: page, end: page.wrapping_add(PAGE) }));
            }
            free = self.space.free_from(page)?;
        }
    }

    /// Takes room for one trampoline that a jump ending at `from` reaches.
    pub(super) fn take_near(&mut self, from: GuestAddr) -> Option<GuestAddr> {
        let area = self.near?;
        let rest = AddrRange { start: area.start.checked_add(TRAMPOLINE_LEN)?, end: area.end };
        let is_usable = rest.start <= rest.end && area.start.rel32_from(from).is_some();
        if is_usable {
            self.near = Some(rest);
        }
        is_usable.then_some(area.start)
    }

    /// Takes room for a jump to `entry` that starts inside `window`, and says what to put there.
    pub(super) fn land(&mut self, window: AddrRange, entry: GuestAddr) -> Option<(GuestAddr, Bytes)> {
        let reaches =
            encode::jmp_rel32(window.start, entry).and(encode::jmp_rel32(window.end, entry)).is_some();
        let len = if reaches { JMP_REL32_LEN } else { encode::JMP_ABS_LEN };
        let taken = self.space.take(window, len as u64)?;
        self.done.push(Done::Took(taken));
        let landing = taken.start;
        let near = encode::jmp_rel32(landing, entry).filter(|_| reaches);
        let long =
            near.map_or_else(|| Bytes::from_slice(&encode::jmp_abs(entry)), |jump| Bytes::from_slice(&jump));
        Some((landing, long.ok()?))
    }

    /// A `jmp rel32` at `at` that ends at `entry`, through a near trampoline if the gate is out of reach.
    pub(super) fn long_jump(&mut self, at: GuestAddr, entry: GuestAddr) -> Option<[u8; JMP_REL32_LEN]> {
        if let Some(direct) = encode::jmp_rel32(at, entry) {
            return Some(direct);
        }
        let trampoline = self.take_near(at.wrapping_add(JMP_REL32_LEN as u64))?;
        let jump = encode::jmp_rel32(at, trampoline)?;
        self.trampoline(trampoline, &encode::jmp_abs(entry))?;
        Some(jump)
    }
}

fn is_free(locked: &BTreeMap<GuestAddr, GuestAddr>, at: GuestAddr, len: u64) -> bool {
    let end = at.wrapping_add(len);
    locked.range(..end).next_back().is_none_or(|(_, locked_end)| *locked_end <= at)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::elf::functions::tests::symbol;
    use crate::elf::functions::{Extent, Functions};
    use crate::find::site::Site;
    use crate::find::site::Span;
    use crate::plan::ranges::Ranges;
    use crate::x86::encode::{INT3, UD2};
    use crate::x86::scan::SYSCALL;
    use proptest::prelude::*;

    pub(in crate::plan) const TEXT: GuestAddr = GuestAddr(0x40_0000);
    /// Out of reach, so that the near area is needed.
    const GATE: Gate = Gate {
        stubs: AddrRange { start: GuestAddr(0x7000_0000_0000), end: GuestAddr(0x7000_0010_0000) },
        policy: GuestAddr(0x7000_0100_0000),
        hooked: GuestAddr(0x7000_0200_0000),
    };

    /// All that a failed attempt must leave as it was.
    #[derive(PartialEq, Debug)]
    pub(in crate::plan) struct State {
        plan: Plan,
        near: Option<AddrRange>,
        space: Space,
        locked: BTreeMap<GuestAddr, GuestAddr>,
        opened: BTreeSet<GuestAddr>,
        padding: [Ranges; 2],
    }

    impl Draft<'_, '_> {
        pub(in crate::plan) fn state(&self) -> State {
            State {
                plan: self.plan.clone(),
                near: self.near,
                space: self.space.clone(),
                locked: self.locked.clone(),
                opened: self.opened.clone(),
                padding: self.padding.known_all(),
            }
        }

        /// The draft as it is and as `steps` leave it that come to nothing. Padding that they find stays known, so they
        /// are taken twice.
        pub(in crate::plan) fn left_by(&mut self, steps: impl Fn(&mut Self)) -> [State; 2] {
            let fail = |draft: &mut Self| {
                let nothing = draft.attempt(|draft| {
                    steps(draft);
                    None::<()>
                });
                (nothing, draft.state()).1
            };
            let first = self.state();
            let padding = fail(self).padding;
            [State { padding, ..first }, fail(self)]
        }
    }

    /// Functions of a random sort, with padding between them and sites in them: the code, the sites, and a symbol for each.
    pub(in crate::plan) fn functions_of(lens: &[(u8, u8)]) -> (Vec<u8>, Vec<Site>, Vec<u8>) {
        let (mut code, mut sites, mut symbols) = (Vec::new(), Vec::new(), Vec::new());
        for (sort, padding) in lens {
            let start = TEXT.wrapping_add(code.len() as u64);
            let before: &[u8] = [
                &[0xb8, 39, 0, 0, 0][..],
                &[0x89, 0xd0],
                &[0x48, 0x89, 0xd0],
                &[0x48, 0x63, 0x47, 0x10],
                &[0x48, 0x8b, 0x05, 0, 0x10, 0, 0],
            ][usize::from(*sort) % 5];
            code.extend_from_slice(before);
            let at = TEXT.wrapping_add(code.len() as u64);
            let predecessor = Some(Span { at: start, len: before.len() as u8 });
            sites.push(Site { at, len: 2, predecessor });
            code.extend_from_slice(&SYSCALL);
            code.extend_from_slice(&[0xc3]);
            let end = TEXT.wrapping_add(code.len() as u64);
            symbols.extend_from_slice(&symbol(0x12, 1, start.0, end.0 - start.0));
            code.resize(code.len() + usize::from(*padding) % 12, INT3);
        }
        (code, sites, symbols)
    }

    /// Calls `then` with an empty draft of such code.
    pub(in crate::plan) fn with_draft(
        lens: &[(u8, u8)],
        near_len: u64,
        then: impl FnOnce(&mut Draft<'_, '_>, &[Site]),
    ) {
        let (code, sites, symbols) = functions_of(lens);
        let text = Text { at: TEXT, bytes: &code };
        let section = Extent { start: TEXT.0, end: text.range().end.0 };
        let functions = Functions::of_symbols(&symbols, section, None);
        let near = Some(AddrRange::new(GuestAddr(0x50_0000), GuestAddr(0x50_0000 + near_len)));
        let mut space = Space::of(&[AddrRange::new(GuestAddr(0x100_0000), GuestAddr(0x7000_0000))]);
        let mut draft = Draft::new(Input {
            text,
            sites: &sites,
            bias: 0,
            functions: &functions,
            dead_ends: &[],
            gate: GATE,
            stubs: &[],
            near,
            space: &mut space,
        });
        then(&mut draft, &sites);
    }

    /// One step of a tactic, whatever comes of it.
    fn step(draft: &mut Draft<'_, '_>, sort: u8, offset: u64) {
        let (at, entry) = (TEXT.wrapping_add(offset), GATE.stubs.start);
        let window = AddrRange::new(GuestAddr(0x200_0000), GuestAddr(0x200_0000 + 16 * offset));
        match sort % 7 {
            0 => drop(draft.edit(at, &UD2)),
            1 => draft.lock(at, 1 + offset % 5),
            2 => draft.trap(at, entry),
            3 => drop(draft.land(window, entry).and_then(|(at, bytes)| draft.landing(at, &bytes))),
            4 => drop(draft.long_jump(at, entry)),
            5 => drop(draft.take_relay(at)),
            _ => drop(draft.take_chain(at)),
        }
    }

    proptest! {
        #[test]
        fn after_a_failed_attempt_all_is_as_before(
            lens in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..12),
            steps in proptest::collection::vec((any::<u8>(), 0..24_u64), 0..40),
            kept in 0..10_usize,
            failed_within in 0..10_usize,
        ) {
            with_draft(&lens, 64, |draft, _| {
                let (first, rest) = steps.split_at(kept.min(steps.len()));
                let (outer, inner) = rest.split_at(failed_within.min(rest.len()));
                first.iter().for_each(|(sort, offset)| step(draft, *sort, *offset));
                let [before, after] = draft.left_by(|draft| {
                    outer.iter().for_each(|(sort, offset)| step(draft, *sort, *offset));
                    let done = draft.attempt(|draft| {
                        inner.iter().for_each(|(sort, offset)| step(draft, *sort, *offset));
                        inner.len().is_multiple_of(2).then_some(())
                    });
                    assert_eq!(done.is_some(), inner.len().is_multiple_of(2));
                });
                assert_eq!(before, after);
            });
        }
    }

    #[test]
    fn what_has_succeeded_stays() {
        with_draft(&[(0, 8)], 64, |draft, _| {
            let jump = draft.attempt(|draft| draft.long_jump(TEXT, GATE.stubs.start));
            assert!(jump.is_some() && draft.near.is_some_and(|near| near.start == GuestAddr(0x50_0010)));
        });
    }
}
