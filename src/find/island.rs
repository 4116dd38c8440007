//! Islands: runs of bytes that no direct branch leads to, and that may be code for all that.
//!
//! Case bodies behind an indirect jump, and blocks behind a call that does not return, are reached by no direct
//! branch. Such an *island*, a whole run of bytes between traced instructions, is taken for code only if it decodes
//! without remainder from its first byte to its last and each of its branches into the stretch lands on an
//! instruction. Each block of it that matters must besides be *tied*: run on into traced code, or branch to it or to a
//! known function, at once or through other blocks.

use alloc::vec::Vec;

use crate::addr::GuestAddr;
use crate::x86::decode::Decoder;
use crate::x86::insn::Insn;

/// A run of bytes that decodes without remainder.
pub(super) struct Island {
    start: usize,
    end: usize,
    insns: Vec<(usize, Insn)>,
}

/// Where a branch of an island leads.
pub(super) enum Landing {
    /// To traced code, or out of the stretch.
    Sound,
    /// To this offset, which is in the stretch and not traced.
    Untraced(usize),
    /// Out of the text.
    Nowhere,
}

impl Island {
    pub(super) fn decode(decoder: &mut Decoder<'_>, start: usize, end: usize) -> Option<Self> {
        let mut insns = Vec::new();
        let mut at = start;
        while at < end {
            let insn = decoder.decode(at).ok()?;
            insns.push((at, insn));
            at = at.checked_add(usize::from(insn.len))?;
        }
        (at == end).then_some(Self { start, end, insns })
    }

    fn starts_at(&self, at: usize) -> bool {
        self.insns.binary_search_by_key(&at, |(from, _)| *from).is_ok()
    }
}

/// All islands of a stretch.
#[derive(Default)]
pub(super) struct Islands {
    /// Where each starts and ends, ascending.
    spans: Vec<(usize, usize)>,
    /// The instructions of all, ascending.
    insns: Vec<(usize, Insn)>,
    /// Which instructions begin a block: the first of an island, and what follows an unconditional transfer.
    blocks: Vec<usize>,
    /// Which blocks are tied, once that is asked.
    ties: Option<Vec<bool>>,
}

impl Islands {
    /// Those of the ascending `candidates` whose branches land on instructions. A branch may lead from one to another, so
    /// one that falls can take others with it.
    pub(super) fn of(candidates: Vec<Island>, landing: impl Fn(GuestAddr) -> Landing) -> Self {
        let holder = |to: usize| {
            let index = candidates.partition_point(|island| island.start <= to).checked_sub(1)?;
            candidates.get(index).filter(|island| island.starts_at(to)).map(|_| index)
        };
        let (mut adrift, mut leads) = (Vec::new(), Vec::new());
        for (index, island) in candidates.iter().enumerate() {
            for target in island.insns.iter().filter_map(|(_, insn)| insn.target()) {
                match landing(target) {
                    Landing::Sound => {}
                    Landing::Nowhere => adrift.push(index),
                    Landing::Untraced(to) => match holder(to) {
                        Some(other) => leads.push((other, index)),
                        None => adrift.push(index),
                    },
                }
            }
        }
        let adrift = spread(candidates.len(), adrift, leads);
        let mut islands = Self::default();
        for (island, _) in candidates.into_iter().zip(adrift).filter(|(_, is_adrift)| !is_adrift) {
            islands.add(island);
        }
        islands
    }

    fn add(&mut self, island: Island) {
        self.spans.push((island.start, island.end));
        let mut begins = true;
        for (at, insn) in island.insns {
            if begins {
                self.blocks.push(self.insns.len());
            }
            begins = !insn.falls_through();
            self.insns.push((at, insn));
        }
    }

    /// The instructions of all, ascending, and where they stand.
    pub(super) fn insns(&self) -> impl Iterator<Item = &(usize, Insn)> {
        self.insns.iter()
    }

    /// The island that holds offset `at`: where it starts and ends.
    pub(super) fn span(&self, at: usize) -> Option<(usize, usize)> {
        let index = self.spans.partition_point(|(start, _)| *start <= at).checked_sub(1)?;
        self.spans.get(index).copied().filter(|(_, end)| at < *end)
    }

    /// Where the block that holds offset `at` starts.
    pub(super) fn block_start(&self, at: usize) -> Option<usize> {
        let first = *self.blocks.get(self.block(at)?)?;
        self.insns.get(first).map(|(start, _)| *start)
    }

    /// The block that holds the first instruction from offset `at` on; at the end of an island, that which runs on there.
    fn block(&self, at: usize) -> Option<usize> {
        let (_, end) = self.span(at)?;
        let next = self.insns.partition_point(|(from, _)| *from < at);
        let index = match self.insns.get(next) {
            Some((from, _)) if *from < end => next,
            _ => next.checked_sub(1).filter(|last| self.runs_on(*last))?,
        };
        self.blocks.partition_point(|first| *first <= index).checked_sub(1)
    }

    fn runs_on(&self, index: usize) -> bool {
        self.insns.get(index).is_some_and(|(_, insn)| insn.falls_through())
    }

    /// Whether the block that holds offset `at` leads, by branches or by running on, to traced code or to what
    /// `is_function` knows, at once or through other blocks. `instruction` gives the offset of a target that is traced or
    /// an island's.
    pub(super) fn is_tied(
        &mut self,
        at: usize,
        is_function: impl Fn(GuestAddr) -> bool,
        instruction: impl Fn(Target) -> Option<usize>,
    ) -> bool {
        let Some(block) = self.block(at) else { return false };
        let ties = self.ties.take().unwrap_or_else(|| self.find_ties(is_function, instruction));
        let is_tied = ties.get(block) == Some(&true);
        self.ties = Some(ties);
        is_tied
    }

    /// Which blocks are tied, found backwards from those that are at once.
    fn find_ties(
        &self,
        is_function: impl Fn(GuestAddr) -> bool,
        instruction: impl Fn(Target) -> Option<usize>,
    ) -> Vec<bool> {
        let (mut tied, mut leads) = (Vec::new(), Vec::new());
        for (block, first) in self.blocks.iter().enumerate() {
            let next = self.blocks.get(block + 1).copied().unwrap_or(self.insns.len());
            let insns = self.insns.get(*first..next).unwrap_or_default();
            let runs_on = insns.last().filter(|(_, insn)| insn.falls_through());
            let end = runs_on.and_then(|(at, _)| Some(Target::Offset(self.span(*at)?.1)));
            for target in insns.iter().filter_map(|(_, insn)| insn.target()) {
                if is_function(target) {
                    tied.push(block);
                }
            }
            let targets = insns.iter().filter_map(|(_, insn)| insn.target()).map(Target::Address);
            for to in targets.chain(end).filter_map(&instruction) {
                match self.block(to) {
                    Some(other) => leads.push((other, block)),
                    None => tied.push(block),
                }
            }
        }
        spread(self.blocks.len(), tied, leads)
    }
}

/// What a block may lead to.
pub(super) enum Target {
    Address(GuestAddr),
    Offset(usize),
}

/// Which of `count` things are among `first`, or lead there: each pair is one that is led to and one that leads.
fn spread(count: usize, first: Vec<usize>, mut leads: Vec<(usize, usize)>) -> Vec<bool> {
    leads.sort_unstable();
    let mut reached = Vec::new();
    reached.resize(count, false);
    let mut pending = first;
    while let Some(index) = pending.pop() {
        let Some(is_reached) = reached.get_mut(index).filter(|is_reached| !**is_reached) else { continue };
        *is_reached = true;
        let from = leads.partition_point(|(to, _)| *to < index);
        let leading = leads.iter().skip(from).take_while(|(to, _)| *to == index);
        pending.extend(leading.map(|(_, leading)| *leading));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const AT: GuestAddr = GuestAddr(0x1000);

    /// Pieces of code and whether each is traced; the last byte of some says where they jump.
    fn code_of(pieces: &[(u8, i8, bool)]) -> (Vec<u8>, BTreeSet<usize>, Vec<(usize, usize)>) {
        let (mut bytes, mut traced, mut runs) = (Vec::new(), BTreeSet::new(), Vec::<(usize, usize)>::new());
        for (sort, rel, is_traced) in pieces {
            let rel = rel.cast_unsigned();
            let start = bytes.len();
            match sort % 6 {
                0 => bytes.extend_from_slice(&[0xeb, rel]),
                1 => bytes.extend_from_slice(&[0x74, rel]),
                2 => bytes.extend_from_slice(&[0x89, 0xd0]),
                3 => bytes.push(0xc3),
                _ => bytes.push(0x90),
            }
            match runs.last_mut().filter(|(_, end)| *end == start) {
                _ if *is_traced => drop(traced.insert(start)),
                Some((_, end)) => *end = bytes.len(),
                None => runs.push((start, bytes.len())),
            }
        }
        (bytes, traced, runs)
    }

    /// Takes islands away one by one until the branches of all that are left land on instructions.
    fn naive(mut islands: Vec<Island>, landing: impl Fn(GuestAddr) -> Landing) -> Vec<(usize, usize)> {
        let lands = |islands: &[Island], island: &Island| {
            island.insns.iter().filter_map(|(_, insn)| insn.target()).all(|target| match landing(target) {
                Landing::Sound => true,
                Landing::Untraced(to) => islands.iter().any(|other| other.starts_at(to)),
                Landing::Nowhere => false,
            })
        };
        while let Some(index) = islands.iter().position(|island| !lands(&islands, island)) {
            islands.remove(index);
        }
        islands.iter().map(|island| (island.start, island.end)).collect()
    }

    /// Follows all that a block leads to, and says whether some of it is traced.
    fn naive_tie(islands: &Islands, at: usize, instruction: impl Fn(Target) -> Option<usize>) -> bool {
        let mut pending: Vec<usize> = islands.block(at).into_iter().collect();
        let mut next = 0;
        while let Some(block) = pending.get(next).copied() {
            next += 1;
            let first = islands.blocks[block];
            let (_, end) = islands.span(islands.insns[first].0).unwrap();
            let insns: Vec<_> = islands.insns[first..].iter().take_while(|(at, _)| *at < end).collect();
            let last = insns.iter().position(|(_, insn)| !insn.falls_through());
            let block = &insns[..last.map_or(insns.len(), |last| last + 1)];
            let runs_on = last.is_none().then_some(Target::Offset(end));
            let targets = block.iter().filter_map(|(_, insn)| insn.target()).map(Target::Address);
            for to in targets.chain(runs_on).filter_map(&instruction) {
                match islands.block(to) {
                    None => return true,
                    Some(other) if !pending.contains(&other) => pending.push(other),
                    Some(_) => {}
                }
            }
        }
        false
    }

    proptest! {
        #[test]
        fn islands_and_ties_are_those_that_a_slow_search_finds(
            pieces in proptest::collection::vec((any::<u8>(), -24..24_i8, proptest::bool::weighted(0.2)), 1..60),
        ) {
            let (bytes, traced, runs) = code_of(&pieces);
            let decode = || -> Vec<Island> {
                let mut decoder = Decoder::new(&bytes, AT);
                runs.iter().filter_map(|(start, end)| Island::decode(&mut decoder, *start, *end)).collect()
            };
            let offset = |target: GuestAddr| usize::try_from(target.0.checked_sub(AT.0)?).ok().filter(|to| *to < bytes.len());
            let landing = |target| match offset(target) {
                Some(to) if traced.contains(&to) => Landing::Sound,
                Some(to) => Landing::Untraced(to),
                None => Landing::Nowhere,
            };
            let mut islands = Islands::of(decode(), landing);
            prop_assert_eq!(&islands.spans, &naive(decode(), landing));
            let starts: BTreeSet<usize> = islands.insns.iter().map(|(at, _)| *at).chain(traced.iter().copied()).collect();
            let instruction = |target| {
                let to = match target {
                    Target::Address(target) => offset(target)?,
                    Target::Offset(to) => to,
                };
                starts.contains(&to).then_some(to)
            };
            for at in 0..bytes.len() {
                let expected = naive_tie(&islands, at, instruction);
                prop_assert_eq!(islands.is_tied(at, |_| false, instruction), expected);
            }
        }
    }

    #[test]
    fn a_chain_of_blocks_is_tied_however_long_it_is() {
        // jmp +0 a thousand times, then a jump to what is traced.
        let bytes = [[0xeb, 0].repeat(1000), std::vec![0xeb, 0, 0xc3]].concat();
        let island = Island::decode(&mut Decoder::new(&bytes, AT), 0, bytes.len() - 1).unwrap();
        let mut islands = Islands::of(Vec::from([island]), |_| Landing::Sound);
        let instruction = |target| match target {
            Target::Address(target) => usize::try_from(target.0 - AT.0).ok(),
            Target::Offset(to) => Some(to),
        };
        assert!(islands.is_tied(0, |_| false, instruction));
    }
}
