//! Milliseconds to find the system calls of a library and to plan their replacement: what mapping it costs, but for
//! the kernel's part. Runs in this process, on the file as it lies on disk; the first round pays for the decoder's
//! tables, as a program's start does.

use loader::addr::{AddrRange, GuestAddr, page_floor};
use loader::bench::{
    Found, Functions, Gate, Image, Input, Plan, Site, Space, SyscallBytes, Text, Verdict, planner, search,
};
use std::time::Instant;

const ROUNDS: usize = 40;
const FILES: [&str; 3] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libcrypto.so.3",
];
/// Where each text lies, and the gate 1 GiB above it.
const BASE: GuestAddr = GuestAddr(0x7f00_0000_0000);

fn main() {
    println!(
        "\nms to replace the system calls of a file\n{:40} {:>6} {:>9} {:>9} {:>9} {:>9}",
        "", "sites", "scan", "find", "plan", "first"
    );
    for path in FILES {
        let Ok(file) = std::fs::read(path) else {
            println!("{path:40} not installed");
            continue;
        };
        let image = Image::parse_interpreter(&file).expect("a library is an ELF image");
        let mut best = [f64::INFINITY; 3];
        let mut first = 0.0;
        let mut sites = 0;
        for round in 0..ROUNDS {
            let times = one_round(&image, &mut sites);
            if round == 0 {
                first = times.iter().sum();
            }
            for (best, time) in best.iter_mut().zip(times) {
                *best = best.min(time);
            }
        }
        let [scan, found, planned] = best;
        println!("{path:40} {sites:>6} {scan:>9.3} {found:>9.3} {planned:>9.3} {first:>9.3}");
    }
}

/// Milliseconds of each step; counts the sites on the way.
fn one_round(image: &Image<'_>, sites: &mut usize) -> [f64; 3] {
    let segment = image.segments().iter().find(|segment| segment.executable).expect("a library holds code");
    let file_start = page_floor(segment.offset) as usize;
    let file_end = (segment.offset + segment.file_size) as usize;
    let text = Text { at: BASE, bytes: &image.file()[file_start..file_end] };
    let bias = BASE.0.wrapping_sub(page_floor(segment.vaddr));

    let start = Instant::now();
    assert!(SyscallBytes::of(text.bytes).count() > 0, "it makes system calls");
    let scanned = Instant::now();
    let functions = Functions::of(image);
    let Found { hits, dead_ends } = search::hits(&text, bias, &functions);
    let sites_found: Vec<Site> = hits
        .into_iter()
        .filter_map(|hit| match hit.verdict {
            Verdict::Site(site) => Some(site),
            Verdict::Inside(_) | Verdict::Restorer | Verdict::Unproved(_) => None,
        })
        .collect();
    let found_at = Instant::now();
    let plan = draft(text, &sites_found, bias, &functions, &dead_ends);
    let planned = Instant::now();
    *sites = plan.stubs.len();
    [scanned - start, found_at - scanned, planned - found_at].map(|time| time.as_secs_f64() * 1e3)
}

fn draft(
    text: Text<'_>,
    sites: &[Site],
    bias: u64,
    functions: &Functions<'_>,
    dead_ends: &[GuestAddr],
) -> Plan {
    let gate = GuestAddr(BASE.0 + (1 << 30));
    let room = AddrRange::new(text.addr(text.bytes.len()).wrapping_add(4096), gate);
    let stubs: Vec<_> = (0..sites.len() as u64).map(|index| gate.checked_add(index * 64)).collect();
    planner::plan(Input {
        text,
        sites,
        bias,
        functions,
        dead_ends,
        gate: Gate {
            stubs: AddrRange::new(gate, gate.wrapping_add(1 << 22)),
            policy: gate.wrapping_add(1 << 24),
            hooked: gate.wrapping_add(1 << 25),
        },
        stubs: &stubs,
        near: None,
        space: &mut Space::of(&[room]),
    })
}
