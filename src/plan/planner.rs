//! Plans all sites of a text, from the last to the first.

use crate::addr::GuestAddr;
use crate::find::site::Site;
use crate::plan::draft::Draft;
use crate::plan::request::Request;
use crate::plan::stub::Instruction;
use crate::plan::{Input, Plan, Refusal, RefusalReason, tactic};
use crate::x86::insn::Kind;

/// Plans all sites.
///
/// # Panics
/// In a debug build, if the plan does not pass [`Plan::check`].
#[must_use]
pub fn plan(input: Input<'_, '_>) -> Plan {
    let (text, sites, stubs) = (input.text, input.sites, input.stubs);
    let mut draft = Draft::new(input);
    // Two sites could want the same bytes only if they overlap; the later one in the text comes first.
    for (index, site) in sites.iter().enumerate().rev() {
        if let Err(reason) = add(&mut draft, site, stubs.get(index).copied().flatten()) {
            draft.plan.refusals.push(Refusal { at: site.at, reason });
        }
    }
    let mut plan = draft.plan;
    plan.edits.sort_unstable_by_key(|edit| edit.at);
    plan.traps.sort_unstable_by_key(|trap| trap.at);
    plan.refusals.reverse();
    debug_assert_eq!(plan.check(&text), Ok(()));
    plan
}

/// Plans the patch of one site.
///
/// # Errors
/// Why it stays as it is.
pub(super) fn add(
    draft: &mut Draft<'_, '_>,
    site: &Site,
    stub: Option<GuestAddr>,
) -> Result<(), RefusalReason> {
    let at = stub.ok_or(RefusalReason::NoStub)?;
    let insn = draft.text.offset(site.at).and_then(|offset| draft.decoder.decode(offset).ok());
    let instruction = match insn.filter(|insn| insn.len == site.len).map(|insn| insn.kind) {
        Some(Kind::Syscall) => Instruction::Syscall,
        Some(Kind::Int80) => Instruction::Int80,
        _ => return Err(RefusalReason::NotThere),
    };
    if !draft.is_free(site.at, u64::from(site.len)) {
        return Err(RefusalReason::Taken);
    }
    draft.begin();
    let request = Request { site, instruction, stub: at };
    let stub = tactic::choose(draft, &request).ok_or(RefusalReason::GateTooWide)?;
    draft.plan.stubs.push(stub);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{AddrRange, GuestAddr};
    use crate::elf::functions::Functions;
    use crate::find::search::{self, Found};
    use crate::find::site::Verdict;
    use crate::find::site::{Site, Span, Text};
    use crate::plan;
    use crate::plan::space::Space;
    use crate::plan::stub::{self, Again};
    use crate::plan::{Gate, RefusalReason, Tactic, TrapSite};
    use crate::x86::encode::UD2;
    use crate::x86::scan::SYSCALL;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const TEXT: GuestAddr = GuestAddr(0x40_0000);
    const NEAR_GATE: Gate = Gate {
        stubs: AddrRange { start: GuestAddr(0x1000_0000), end: GuestAddr(0x1001_0000) },
        policy: GuestAddr(0x1100_0000),
        hooked: GuestAddr(0xf00_0000),
    };
    const FAR: u64 = 0x7000_0000_0000;
    const FAR_GATE: Gate = Gate {
        stubs: AddrRange { start: GuestAddr(FAR), end: GuestAddr(FAR + 0x1_0000) },
        policy: GuestAddr(FAR - 0x1000),
        hooked: GuestAddr(FAR - 0x2000),
    };

    /// One stub after the other.
    fn stubs_of(sites: &[Site], gate: &Gate) -> Vec<Option<GuestAddr>> {
        let at = |index: u64| gate.stubs.start.checked_add(index * stub::LEN as u64);
        (0..sites.len() as u64).map(at).collect()
    }

    fn planned(bytes: &[u8], sites: &[Site], gate: Gate, space: &mut Space) -> Plan {
        planned_into(&stubs_of(sites, &gate), bytes, sites, gate, space)
    }

    fn planned_into(
        stubs: &[Option<GuestAddr>],
        bytes: &[u8],
        sites: &[Site],
        gate: Gate,
        space: &mut Space,
    ) -> Plan {
        let text = Text { at: TEXT, bytes };
        let near_len = plan::near_len(&text, sites.len(), &gate);
        let near = Some(AddrRange::new(GuestAddr(0x50_0000), GuestAddr(0x50_0000 + near_len)));
        let functions = Functions::unknown();
        let functions = &functions;
        let plan = plan(Input { text, sites, bias: 0, functions, dead_ends: &[], gate, stubs, near, space });
        plan.check(&text).unwrap();
        plan
    }

    /// How many sites each tactic serves, none of those that serve none.
    fn tally(plan: &Plan) -> Vec<(&'static str, usize)> {
        let count = |tactic| plan.stubs.iter().filter(|stub| stub.tactic == tactic).count();
        Tactic::all().map(|tactic| (tactic.key(), count(tactic))).filter(|(_, count)| *count != 0).collect()
    }

    fn site(offset: u64, len: u8, predecessor: Option<u8>) -> Site {
        let at = TEXT.wrapping_add(offset);
        let span = |len: u8| Span { at: at.wrapping_sub(u64::from(len)), len };
        Site { at, len, predecessor: predecessor.map(span) }
    }

    #[test]
    fn a_five_byte_predecessor_makes_room_for_the_jump() {
        let bytes = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
        let plan = planned(&bytes, &[site(5, 2, Some(5))], NEAR_GATE, &mut Space::default());
        assert_eq!(tally(&plan), [("eviction", 1)]);
        assert_eq!(plan.edits[0].new[0], 0xe9);
        assert_eq!(plan.edits[1].new, UD2);
        let evicted = plan.stubs[0].evicted.unwrap();
        assert_eq!(evicted.again, Again::Constant);
        assert_eq!(plan.traps, [TrapSite { at: TEXT.wrapping_add(5), entry: plan.stubs[0].plain_entry() }]);
    }

    #[test]
    fn a_rip_relative_predecessor_still_reads_the_same_address() {
        let bytes = [0x8b, 0x05, 0x10, 0, 0, 0, 0x0f, 0x05, 0xc3];
        let near = planned(&bytes, &[site(6, 2, Some(6))], NEAR_GATE, &mut Space::default());
        assert_eq!(tally(&near), [("eviction", 1)]);
        let far = planned(&bytes, &[site(6, 2, Some(6))], FAR_GATE, &mut Space::default());
        assert_eq!(tally(&far), [("trap", 1)]);
    }

    #[test]
    fn an_instruction_that_writes_memory_is_not_evicted() {
        let bytes = [0x89, 0x05, 0x10, 0, 0, 0, 0x0f, 0x05, 0xc3];
        let plan = planned(&bytes, &[site(6, 2, Some(6))], NEAR_GATE, &mut Space::default());
        assert_eq!(tally(&plan), [("trap", 1)]);
    }

    #[test]
    fn a_far_gate_is_reached_through_a_near_trampoline() {
        let bytes = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3];
        let plan = planned(&bytes, &[site(5, 2, Some(5))], FAR_GATE, &mut Space::default());
        assert_eq!(tally(&plan), [("eviction", 1)]);
        assert_eq!(plan.trampolines[0].at, GuestAddr(0x50_0000));
    }

    #[test]
    fn a_pun_keeps_the_bytes_that_follow() {
        // rel32 = 0x0011_22xx counts from TEXT + 5.
        let bytes = [0x0f, 0x05, 0x22, 0x11, 0x00, 0xc3];
        let window = TEXT.wrapping_add(5 + 0x11_2200);
        let mut space = Space::of(&[AddrRange::new(window.wrapping_add(0x80), window.wrapping_add(0x1000))]);
        let plan = planned(&bytes, &[site(0, 2, None)], NEAR_GATE, &mut space);
        assert_eq!(tally(&plan), [("pun", 1)]);
        // The first multiple of 16 in the free part of the window.
        assert_eq!(plan.edits[0].new[..], [0xe9, 0x8b]);
        let none = planned(&bytes, &[site(0, 2, None)], NEAR_GATE, &mut Space::default());
        assert_eq!(tally(&none), [("trap", 1)]);
    }

    #[test]
    fn a_short_predecessor_makes_room_if_the_jump_traps_where_it_laps_over_the_site() {
        for before in [&[0x89, 0xd0][..], &[0x4c, 0x89, 0xc0], &[0x48, 0x63, 0x47, 0x10]] {
            let bytes = [before, &[0x0f, 0x05, 0x01, 0xc3, 0xc3]].concat();
            let all = AddrRange::new(GuestAddr(0x50_0000), GuestAddr(0x7000_0000));
            let mut space = Space::of(&[all]);
            let sites = [site(before.len() as u64, 2, Some(before.len() as u8))];
            // The pun of these bytes points below the space that is free.
            let plan = planned(&bytes, &sites, NEAR_GATE, &mut space);
            assert_eq!(tally(&plan), [("eviction", 1)], "{before:x?}");
        }
    }

    #[test]
    fn of_two_adjacent_sites_neither_harms_the_other() {
        let bytes = [0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x0f, 0x05, 0xc3];
        let sites = [site(5, 2, Some(5)), site(7, 2, Some(2))];
        let plan = planned(&bytes, &sites, NEAR_GATE, &mut Space::default());
        assert_eq!(tally(&plan), [("eviction", 1), ("trap", 1)]);
    }

    #[test]
    fn both_entries_of_a_prefixed_site_lead_to_its_stub() {
        let bytes = [0x48, 0x0f, 0x05, 0xc3];
        let plan = planned(&bytes, &[site(0, 3, None)], NEAR_GATE, &mut Space::default());
        let traps: Vec<_> = plan.traps.iter().map(|trap| trap.at).collect();
        assert_eq!(traps, [TEXT, TEXT.wrapping_add(1)]);
    }

    #[test]
    fn a_site_with_an_operand_size_prefix_is_a_trap() {
        let bytes = [0xb8, 39, 0, 0, 0, 0x66, 0x0f, 0x05, 0xc3];
        let plan = planned(&bytes, &[site(5, 3, Some(5))], NEAR_GATE, &mut Space::default());
        assert_eq!(tally(&plan), [("trap", 1)]);
    }

    #[test]
    fn a_site_that_is_not_there_or_without_a_stub_is_refused() {
        let bytes = [0x0f, 0x05, 0x90, 0x0f];
        let sites = [site(0, 2, None), site(1, 2, None), site(3, 2, None)];
        let reasons = |plan: Plan| plan.refusals.iter().map(|refusal| refusal.reason).collect::<Vec<_>>();
        use RefusalReason::{GateTooWide, NoStub, NotThere};
        assert_eq!(reasons(planned(&bytes, &sites, NEAR_GATE, &mut Space::default())), [NotThere; 2]);
        let full = planned_into(&[None; 3], &bytes, &sites, NEAR_GATE, &mut Space::default());
        assert_eq!(reasons(full), [NoStub; 3]);
        let wide = Gate { policy: TEXT.wrapping_sub(0x10_0000), ..FAR_GATE };
        assert_eq!(reasons(planned(&bytes, &sites[..1], wide, &mut Space::default())), [GateTooWide]);
    }

    /// Instructions to make random code of.
    const PIECES: [&[u8]; 14] = [
        &[0xb8, 39, 0, 0, 0],
        &[0x0f, 0x05],
        &[0x0f, 0x05],
        &[0x48, 0x0f, 0x05],
        &[0x66, 0x0f, 0x05],
        &[0x89, 0xf8],
        &[0x48, 0xc7, 0xc0, 15, 0, 0, 0],
        &[0x48, 0x8b, 0x05, 0x00, 0x10, 0, 0],
        &[0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff],
        &[0x50],
        &[0xc7, 0x04, 0x24, 1, 0, 0, 0],
        &[0x90],
        &[0xeb, 0x00],
        &[0x81, 0xf9, 0x0f, 0x05, 0, 0],
    ];

    proptest! {
        #[test]
        fn any_code_keeps_its_meaning(picks in proptest::collection::vec(0..PIECES.len(), 1..60), is_far in any::<bool>(), has_space in any::<bool>()) {
            let (mut bytes, mut sites, mut boundaries) = (Vec::new(), Vec::new(), Vec::new());
            let mut previous = None;
            for pick in picks {
                let piece = PIECES[pick];
                boundaries.push(bytes.len());
                if piece.ends_with(&SYSCALL) {
                    sites.push(site(bytes.len() as u64, piece.len() as u8, previous));
                }
                bytes.extend_from_slice(piece);
                previous = Some(piece.len() as u8);
            }
            let all = AddrRange::new(GuestAddr(0x100_0000), GuestAddr(0x7000_0000));
            let mut space = if has_space { Space::of(&[all]) } else { Space::default() };
            let gate = if is_far { FAR_GATE } else { NEAR_GATE };
            let plan = planned(&bytes, &sites, gate, &mut space);
            prop_assert_eq!(plan.stubs.len(), sites.len());
            // Whatever is neither a site nor evicted reads as before, its operands included.
            let mut changed = bytes.clone();
            for edit in &plan.edits {
                let start = (edit.at.0 - TEXT.0) as usize;
                changed[start..start + edit.new.len()].copy_from_slice(&edit.new);
            }
            for (index, start) in boundaries.iter().enumerate() {
                let end = boundaries.get(index + 1).copied().unwrap_or(bytes.len());
                let at = TEXT.wrapping_add(*start as u64);
                let is_touched = sites.iter().any(|site| site.at == at)
                    || plan.stubs.iter().any(|stub| stub.evicted.is_some_and(|evicted| evicted.span.at == at));
                prop_assert!(is_touched || bytes[*start..end] == changed[*start..end]);
            }
        }

        #[test]
        fn a_site_that_is_an_allegation_never_breaks_the_planner(
            mut bytes in proptest::collection::vec(any::<u8>(), 2..60),
            at in 0_usize..60,
            len in 0_u8..16,
            before in 0_u8..16,
        ) {
            let at = at.min(bytes.len() - 2);
            bytes[at..at + 2].copy_from_slice(&SYSCALL);
            let sites = [site((at as u64 + 2).saturating_sub(u64::from(len)), len, Some(before))];
            let mut space = Space::of(&[AddrRange::new(GuestAddr(0x100_0000), GuestAddr(0x7000_0000))]);
            let plan = planned(&bytes, &sites, NEAR_GATE, &mut space);
            prop_assert_eq!(plan.stubs.len() + plan.refusals.len(), 1);
        }
    }

    #[test]
    fn the_c_library_of_this_machine_is_patched_without_a_refusal() {
        let Ok(file) = std::fs::read("/lib/x86_64-linux-gnu/libc.so.6") else {
            std::println!("skipped: no libc.so.6 at its usual place");
            return;
        };
        let image = crate::elf::image::Image::parse(&file).unwrap();
        let functions = Functions::of(&image);
        let segment = image.segments().iter().find(|segment| segment.executable).unwrap();
        let bytes = image.bytes_at(segment.vaddr, segment.file_size).unwrap();
        let text = Text { at: GuestAddr(segment.vaddr), bytes };
        let Found { hits, dead_ends } = search::hits(&text, 0, &functions);
        let sites: Vec<_> = hits
            .iter()
            .filter_map(|hit| match hit.verdict {
                Verdict::Site(site) => Some(site),
                _ => None,
            })
            .collect();
        assert!(sites.len() >= 400 && hits.len() - sites.len() <= 8, "{} of {}", sites.len(), hits.len());
        let near = None;
        let gate = NEAR_GATE;
        let plan = plan(Input {
            text,
            sites: &sites,
            bias: 0,
            functions: &functions,
            dead_ends: &dead_ends,
            gate,
            stubs: &stubs_of(&sites, &gate),
            near,
            space: &mut Space::default(),
        });
        plan.check(&text).unwrap();
        assert_eq!(plan.refusals, []);
        let served = |key: &str| plan.stubs.iter().filter(|stub| stub.tactic.key() == key).count();
        let is_good = served("short_jump") * 4 >= sites.len() * 3 && served("trap") * 20 <= sites.len();
        assert!(is_good, "{:?}", tally(&plan));
    }
}
