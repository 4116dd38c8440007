//! Tests of [`super`].

use super::*;
use crate::elf::sample::{Sample, segment};
use proptest::prelude::*;
use std::os::unix::fs::FileExt;

fn program_header(kind: u32, flags: u32, vaddr: u64) -> ProgramHeader {
    ProgramHeader { kind, flags, vaddr, ..segment(0) }
}

#[test]
fn reads_the_running_program() {
    let file = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let image = Image::parse(&file).unwrap();
    assert_eq!(image.kind(), Kind::Relocatable);
    assert!(image.interpreter().is_some());
    assert_eq!(image.stack(), StackProtection::NonExecutable);
    let text = image.section(".text").unwrap();
    assert!((text.vaddr..text.vaddr + text.size).contains(&image.entry()));
    assert_eq!(image.bytes_at(text.vaddr, text.size), Some(text.bytes));
    assert!(image.section(".bss").unwrap().bytes.is_empty());
    assert_eq!(image.section(".no such section"), None);
}

#[test]
fn reads_the_vdso_in_memory() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let (range, _) = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap().split_once(' ').unwrap();
    let (start, end) = range.split_once('-').unwrap();
    let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
    let mut bytes = std::vec![0; usize::try_from(end - start).unwrap()];
    std::fs::File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, start).unwrap();
    let image = Image::parse(&bytes).unwrap();
    assert_eq!((image.kind(), image.span().0), (Kind::Relocatable, 0));
    assert!(image.program_headers().any(|header| header.kind == goblin::elf64::program_header::PT_DYNAMIC));
}

#[test]
fn the_program_headers_lie_in_the_last_segment_that_holds_them() {
    let (table, pt_phdr) = (64, 6);
    let vaddr = |file: &[u8]| Image::parse(file).unwrap().program_headers_vaddr();
    assert_eq!(vaddr(&Sample::altered(|_| ())), Some(Sample::BASE + table));
    let two = Sample::altered(|sample| sample.headers.push(segment(0x50_0000)));
    assert_eq!(vaddr(&two), Some(0x50_0000 + table));
    let misled = Sample::altered(|sample| sample.headers.insert(0, program_header(pt_phdr, 4, 0x41_0000)));
    assert_eq!(vaddr(&misled), Some(Sample::BASE + table));
    let unmapped = Sample::altered(|sample| sample.add_null_headers(1));
    assert_eq!(vaddr(&unmapped), None);
}

#[test]
fn the_last_word_on_the_stack_counts() {
    let stated = |flags: &[u32]| {
        let headers = flags.iter().map(|&flags| program_header(PT_GNU_STACK, flags, 0));
        Image::parse(&Sample::altered(|sample| sample.headers.extend(headers))).unwrap().stack()
    };
    assert_eq!(stated(&[]), StackProtection::Unstated);
    assert_eq!(stated(&[6]), StackProtection::NonExecutable);
    assert_eq!(stated(&[6, 7]), StackProtection::Executable);
    assert_eq!(stated(&[7, 6]), StackProtection::NonExecutable);
}

#[test]
fn the_span_holds_unsorted_segments_to_their_last_page() {
    let long = ProgramHeader { mem_size: 0x1001, ..segment(0x50_0000) };
    let file = Sample::altered(|sample| sample.headers.insert(0, long));
    assert_eq!(Image::parse(&file).unwrap().span(), (Sample::BASE, 0x50_2000));
}

#[test]
fn alignments_that_are_no_power_of_two_do_not_count() {
    let align = |align| {
        let file =
            Sample::altered(|sample| sample.headers.push(ProgramHeader { align, ..segment(0x50_0000) }));
        Image::parse(&file).unwrap().align()
    };
    assert_eq!([0, 3, 16, 0x20_0000, 0x20_0001].map(align), [PAGE, PAGE, PAGE, 0x20_0000, PAGE]);
}

#[test]
fn the_name_of_the_interpreter_ends_at_its_first_zero_byte() {
    let file = Sample::altered(|sample| sample.name_interpreter(0x900, 9, b"/ld\0junk\0"));
    assert_eq!(Image::parse(&file).unwrap().interpreter(), Some(c"/ld"));
}

#[test]
fn bytes_come_from_one_segment_and_from_the_file_only() {
    let zeroed = ProgramHeader { file_size: 0x10, mem_size: 0x1000, ..segment(0x50_0000) };
    let file = Sample::altered(|sample| sample.headers.push(zeroed));
    let image = Image::parse(&file).unwrap();
    assert_eq!(image.bytes_at(0x50_0000, 4), Some(&b"\x7fELF"[..]));
    assert_eq!(image.bytes_at(0x50_0000, 0x11), None);
    assert_eq!(image.bytes_at(0x50_0010, 1), None);
    assert_eq!(image.bytes_at(Sample::BASE - 1, 2), None);
    assert_eq!(image.bytes_at(Sample::BASE, u64::MAX), None);
}

/// Uses everything that an image offers, and checks what it promises.
fn probe(file: &[u8], image: &Image<'_>) {
    let within = |part: &[u8]| part.is_empty() || file.as_ptr_range().contains(&part.as_ptr());
    let (start, end) = image.span();
    assert_eq!((start % PAGE, end % PAGE), (0, 0));
    assert!(end <= TASK_SIZE && image.align().is_power_of_two() && image.align() >= PAGE);
    assert_eq!(image.program_headers().count(), usize::from(image.program_header_count()));
    for segment in image.segments() {
        assert!(segment.file_size <= segment.mem_size);
        assert!(start <= segment.vaddr && segment.end() <= end);
        assert!(segment.file_size == 0 || segment.vaddr % PAGE == segment.offset % PAGE);
        for at in [segment.vaddr, segment.vaddr + segment.file_size / 2, segment.end()] {
            let bytes = image.bytes_at(at, 1);
            assert!(bytes.is_none_or(|bytes| bytes.len() == 1 && within(bytes)));
        }
    }
    for section in image.sections() {
        assert!(within(section.bytes) && within(section.name));
        assert!(section.bytes.is_empty() || section.bytes.len() as u64 == section.size);
    }
    assert!(image.interpreter().is_none_or(|path| !path.is_empty() && within(path.to_bytes())));
    let table = image.program_headers_vaddr();
    assert!(table.is_none_or(|vaddr| image.segments().iter().any(|segment| segment.holds(vaddr))));
    let _ = (image.stack(), image.section(".text"));
}

fn probe_as_both(file: &[u8]) {
    for image in [Image::parse(file), Image::parse_interpreter(file)].into_iter().flatten() {
        probe(file, &image);
    }
}

/// A real program, small if there is one.
fn program() -> Vec<u8> {
    let own = std::env::current_exe().unwrap();
    std::fs::read("/bin/true").or_else(|_| std::fs::read(own)).unwrap()
}

/// Where a field may lie: in the file header, a program header or a section header.
fn field() -> impl Strategy<Value = (usize, usize, usize)> {
    let width = || prop::sample::select(std::vec![1_usize, 2, 4, 8]);
    (0_usize..3, 0_usize..30, (0_usize..8, width()))
        .prop_map(|(table, entry, (word, width))| (table, entry * [0, 56, 64][table] + word * 8, width))
}

fn value() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 2, 0xfff, 0x1000, 0xffff, 1 << 32, TASK_SIZE - 1, TASK_SIZE, 1 << 63, u64::MAX];
    prop_oneof![prop::sample::select(edges.to_vec()), 0_u64..0x2_0000, any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn a_damaged_header_does_no_harm(edits in prop::collection::vec((field(), value()), 1..6)) {
        let mut file = program();
        let original = FileHeader::read(&file);
        let tables = [0, original.program_headers_offset, original.sections_offset];
        for ((table, offset, width), value) in edits {
            let at = usize::try_from(tables[table]).unwrap() + offset;
            if let Some(place) = file.get_mut(at..at + width) {
                place.copy_from_slice(&value.to_le_bytes()[..width]);
            }
        }
        probe_as_both(&file);
    }

    #[test]
    fn a_flipped_bit_or_a_missing_end_does_no_harm(
        bits in prop::collection::vec(any::<usize>(), 0..9),
        keep in any::<usize>(),
    ) {
        let mut file = program();
        let headers_len = 1024.min(file.len());
        for bit in bits {
            file[bit / 8 % headers_len] ^= 1 << (bit % 8);
        }
        file.truncate(keep % (file.len() + 1));
        probe_as_both(&file);
    }

    #[test]
    fn any_bytes_behind_the_magic_do_no_harm(rest in prop::collection::vec(any::<u8>(), 0..200)) {
        probe_as_both(&[ELFMAG.as_slice(), &rest].concat());
    }
}

#[test]
fn every_prefix_of_a_program_does_no_harm() {
    let file = program();
    let start = 2048.min(file.len());
    for len in (0..start).chain((start..file.len()).step_by(509)) {
        probe_as_both(&file[..len]);
    }
}
