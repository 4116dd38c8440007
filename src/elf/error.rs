//! Why a file cannot be run, and what the kernel's `execve` makes of the same file.
//!
//! Two things can happen natively. Faults that are found before the old program is gone come back from
//! `execve` as an error number; faults found after it (`begin_new_exec`, the point of no return in
//! fs/exec.c) end the process with SIGSEGV. Where a fault falls depends on the role of the file, so both
//! questions take a [`Role`].

use core::fmt;

use crate::abi::errno::Errno;

/// What a file is loaded as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The program that `execve` names.
    Program,
    /// The dynamic loader that the program's `PT_INTERP` names.
    Interpreter,
}

/// A fact about a file that keeps it from being run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// The file does not start with the ELF magic.
    NotElf,
    /// A dynamic loader is shorter than a file header.
    Short {
        /// The length of the file in bytes.
        len: u64,
    },
    /// The file is for machines of the other byte order.
    ByteOrder,
    /// The file is 32-bit code for x86-64: the x32 ABI.
    Class32,
    /// `e_type` is neither `ET_EXEC` nor `ET_DYN`.
    Type(u16),
    /// `e_machine` is not `EM_X86_64`.
    Machine(u16),
    /// `e_phentsize` is not 56.
    HeaderLen(u16),
    /// `e_phnum` is zero, or the table is larger than 65536 bytes.
    HeaderCount(u16),
    /// The program header table reaches past the end of the file.
    HeadersPastEnd {
        /// `e_phoff`.
        offset: u64,
        /// The length of the table in bytes.
        len: u64,
    },
    /// `PT_INTERP` holds fewer than two bytes or more than `PATH_MAX`.
    InterpreterLen(u64),
    /// `PT_INTERP` reaches past the end of the file.
    InterpreterPastEnd {
        /// Where it starts in the file.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// `PT_INTERP` does not end with a zero byte.
    InterpreterUnterminated,
    /// `PT_INTERP` starts with a zero byte.
    InterpreterEmpty,
    /// There is nothing to map.
    NoSegment,
    /// A segment's file offset and address differ within the page.
    SegmentMisaligned {
        /// Which program header.
        index: u16,
        /// Its `p_offset`.
        offset: u64,
        /// Its `p_vaddr`.
        vaddr: u64,
    },
    /// A segment's bytes lie at file offsets that no file has.
    SegmentOffset {
        /// Which program header.
        index: u16,
        /// Its `p_offset`.
        offset: u64,
    },
    /// A segment has more bytes in the file than in memory.
    SegmentShrinks {
        /// Which program header.
        index: u16,
        /// Its `p_filesz`.
        file_size: u64,
        /// Its `p_memsz`.
        mem_size: u64,
    },
    /// A segment does not fit into the address space.
    SegmentOutside {
        /// Which program header.
        index: u16,
        /// Its `p_vaddr`.
        vaddr: u64,
        /// Its `p_memsz`.
        mem_size: u64,
    },
    /// The entry point of a fixed program without a dynamic loader lies outside the address space.
    EntryOutside(u64),
}

impl Error {
    /// Whether it is a file of 32-bit code for this machine, which the kernel may know how to run.
    #[must_use]
    pub const fn is_32_bit(&self) -> bool {
        const I386: u16 = 3; // EM_386 (gABI, "ELF Header")
        matches!(self, Self::Class32 | Self::Machine(I386))
    }

    /// The error number that the kernel has for it: what `execve` returns, unless it finds it past the point of
    /// no return, and ends the process.
    #[must_use]
    pub const fn errno(self, role: Role) -> Errno {
        match role {
            Role::Program => self.errno_of_program(),
            Role::Interpreter => self.errno_of_interpreter(),
        }
    }

    /// Whether the kernel finds it past the point of no return, and ends the process with SIGSEGV.
    #[cfg(test)]
    pub const fn kills(self, role: Role) -> bool {
        match self {
            // Only load_elf_interp looks at the type of a dynamic loader, and it runs late.
            Self::Type(_) => matches!(role, Role::Interpreter),
            Self::NoSegment
            | Self::SegmentMisaligned { .. }
            | Self::SegmentOffset { .. }
            | Self::SegmentShrinks { .. }
            | Self::SegmentOutside { .. }
            | Self::EntryOutside(_) => true,
            _ => false,
        }
    }

    const fn errno_of_program(self) -> Errno {
        match self {
            Self::InterpreterPastEnd { offset, .. } if offset > i64::MAX.cast_unsigned() => Errno::EINVAL,
            Self::InterpreterPastEnd { .. } => Errno::EIO,
            // open_exec of an empty name finds the working directory.
            Self::InterpreterEmpty => Errno::EACCES,
            Self::NoSegment
            | Self::SegmentMisaligned { .. }
            | Self::SegmentOffset { .. }
            | Self::SegmentShrinks { .. }
            | Self::SegmentOutside { .. }
            | Self::EntryOutside(_) => Errno::EINVAL,
            _ => Errno::ENOEXEC,
        }
    }

    const fn errno_of_interpreter(self) -> Errno {
        match self {
            Self::Short { .. } => Errno::EIO,
            // load_elf_interp starts from `error = ~0UL`.
            Self::Type(_) => Errno::EPERM,
            Self::NoSegment
            | Self::SegmentMisaligned { .. }
            | Self::SegmentOffset { .. }
            | Self::EntryOutside(_) => Errno::EINVAL,
            Self::SegmentShrinks { .. } | Self::SegmentOutside { .. } => Errno::ENOMEM,
            _ => Errno::ELIBBAD,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotElf => write!(f, "not an ELF file"),
            Self::Short { len } => write!(f, "only {len} bytes long, too short for an ELF file"),
            Self::ByteOrder => write!(f, "a big-endian file"),
            Self::Class32 => write!(f, "a 32-bit file"),
            Self::Type(1) => write!(f, "an object file that is not linked"),
            Self::Type(4) => write!(f, "a core dump"),
            Self::Type(kind) => write!(f, "of ELF type {kind}, not a program"),
            Self::Machine(3) => write!(f, "a program for i386"),
            Self::Machine(machine) => write!(f, "a program for another machine ({machine})"),
            Self::HeaderLen(len) => write!(f, "program headers are {len} bytes long, not 56"),
            Self::HeaderCount(0) => write!(f, "no program headers"),
            Self::HeaderCount(count) => write!(f, "too many program headers ({count})"),
            Self::HeadersPastEnd { offset, len } => {
                write!(f, "program headers ({len} bytes at {offset:#x}) reach past the end of the file")
            }
            Self::InterpreterLen(len) => write!(f, "the interpreter's name is {len} bytes long"),
            Self::InterpreterPastEnd { offset, len } => {
                write!(
                    f,
                    "the interpreter's name ({len} bytes at {offset:#x}) reaches past the end of the file"
                )
            }
            Self::InterpreterUnterminated => {
                write!(f, "the interpreter's name does not end with a zero byte")
            }
            Self::InterpreterEmpty => write!(f, "the interpreter's name is empty"),
            Self::NoSegment => write!(f, "no segment to load"),
            Self::SegmentMisaligned { index, offset, vaddr } => {
                write!(f, "segment {index} maps offset {offset:#x} to {vaddr:#x}, not alike within a page")
            }
            Self::SegmentOffset { index, offset } => {
                write!(f, "segment {index} starts at offset {offset:#x}, which no file has")
            }
            Self::SegmentShrinks { index, file_size, mem_size } => {
                write!(f, "segment {index} has {file_size:#x} bytes in the file but {mem_size:#x} in memory")
            }
            Self::SegmentOutside { index, vaddr, mem_size } => {
                write!(
                    f,
                    "segment {index} ({mem_size:#x} bytes at {vaddr:#x}) lies outside the address space"
                )
            }
            Self::EntryOutside(entry) => {
                write!(f, "the entry point {entry:#x} lies outside the address space")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::image::{Image, ProgramHeader, TASK_SIZE};
    use crate::elf::sample::{Executable, Sample, segment};
    use proptest::prelude::*;
    use std::os::unix::process::ExitStatusExt;
    use std::string::ToString;
    use std::vec::Vec;

    const SIGSEGV: i32 = 11;
    const NAME_AT: u64 = 0x900;

    /// What becomes of a process that calls `execve`.
    #[derive(PartialEq, Eq, Debug)]
    enum Fate {
        Refused(u16),
        Killed,
        Runs,
    }

    fn predicted(parsed: Result<Image<'_>, Error>, role: Role) -> Fate {
        match parsed {
            Ok(_) => Fate::Runs,
            Err(error) if error.kills(role) => Fate::Killed,
            Err(error) => Fate::Refused(error.errno(role).0),
        }
    }

    fn native(program: &Executable) -> Fate {
        match program.run() {
            Err(errno) => Fate::Refused(errno),
            Ok(output) if output.status.signal() == Some(SIGSEGV) => Fate::Killed,
            Ok(output) => {
                assert_eq!(output.status.code(), Some(Sample::STATUS));
                Fate::Runs
            }
        }
    }

    fn first(alter: impl FnOnce(&mut ProgramHeader)) -> Vec<u8> {
        Sample::altered(|sample| alter(&mut sample.headers[0]))
    }

    fn second(alter: impl FnOnce(&mut ProgramHeader)) -> Vec<u8> {
        Sample::altered(|sample| {
            let mut header = segment(0x50_0000);
            alter(&mut header);
            sample.headers.push(header);
        })
    }

    fn interpreter(name: &[u8], len: u64) -> Vec<u8> {
        Sample::altered(|sample| sample.name_interpreter(NAME_AT, len, name))
    }

    /// A file, and the error that is found in it as a program.
    type Row = (Vec<u8>, Option<Error>);

    fn header_rows() -> Vec<Row> {
        let (offset, len) = (0xff0, 56);
        std::vec![
            (Sample::altered(|_| ()), None),
            (Vec::new(), Some(Error::NotElf)),
            (b"echo\n".to_vec(), Some(Error::NotElf)),
            (b"\x7fELF".to_vec(), Some(Error::Machine(0))),
            (Sample::altered(|sample| sample.class = 1), None),
            (Sample::altered(|sample| sample.data = 2), None),
            (Sample::altered(|sample| sample.version = 9), None),
            (Sample::altered(|sample| (sample.machine, sample.data) = (0x1600, 2)), Some(Error::ByteOrder)),
            (Sample::altered(|sample| (sample.header_len, sample.class) = (0, 1)), Some(Error::Class32)),
            (Sample::altered(|sample| sample.machine = 3), Some(Error::Machine(3))),
            (Sample::altered(|sample| sample.machine = 183), Some(Error::Machine(183))),
            (Sample::altered(|sample| sample.file_type = 1), Some(Error::Type(1))),
            (Sample::altered(|sample| sample.file_type = 4), Some(Error::Type(4))),
            (Sample::altered(|sample| sample.header_len = 64), Some(Error::HeaderLen(64))),
            (Sample::altered(|sample| sample.header_count = Some(0)), Some(Error::HeaderCount(0))),
            (Sample::altered(|sample| sample.header_count = Some(0xffff)), Some(Error::HeaderCount(0xffff))),
            (Sample::altered(|sample| sample.add_null_headers(1169)), None),
            (Sample::altered(|sample| sample.add_null_headers(1170)), Some(Error::HeaderCount(1171))),
            (
                Sample::altered(|sample| sample.headers_at = offset),
                Some(Error::HeadersPastEnd { offset, len })
            ),
            (Sample::altered(|sample| sample.headers[0].kind = 0), Some(Error::NoSegment)),
            (interpreter(b"", 0), Some(Error::InterpreterLen(0))),
            (interpreter(b"\0", 1), Some(Error::InterpreterLen(1))),
            (interpreter(&[b'/'; 4096], 4097), Some(Error::InterpreterLen(4097))),
            (interpreter(b"/bin/", 5), Some(Error::InterpreterUnterminated)),
            (interpreter(b"\0\0", 2), Some(Error::InterpreterEmpty)),
            (
                Sample::altered(|sample| sample.name_interpreter(0x1_0000, 9, b"")),
                Some(Error::InterpreterPastEnd { offset: 0x1_0000, len: 9 }),
            ),
            (
                Sample::altered(|sample| sample.name_interpreter(1 << 63, 9, b"")),
                Some(Error::InterpreterPastEnd { offset: 1 << 63, len: 9 }),
            ),
            (Sample::altered(|sample| sample.file_type = 3), None),
            (Sample::altered(|sample| sample.entry = 1 << 63), Some(Error::EntryOutside(1 << 63))),
            (Sample::altered(|sample| sample.entry = TASK_SIZE), Some(Error::EntryOutside(TASK_SIZE))),
        ]
    }

    fn segment_rows() -> Vec<Row> {
        let misaligned = 0x40_0123;
        std::vec![
            (
                first(|header| header.vaddr = misaligned),
                Some(Error::SegmentMisaligned { index: 0, offset: 0, vaddr: misaligned }),
            ),
            (second(|header| (header.offset, header.file_size, header.mem_size) = (0x123, 0, 8192)), None),
            (
                first(|header| header.mem_size = 0x800),
                Some(Error::SegmentShrinks { index: 0, file_size: 0x1000, mem_size: 0x800 }),
            ),
            (
                first(|header| header.mem_size = 1 << 47),
                Some(Error::SegmentOutside { index: 0, vaddr: Sample::BASE, mem_size: 1 << 47 }),
            ),
            (
                first(|header| header.mem_size = u64::MAX),
                Some(Error::SegmentOutside { index: 0, vaddr: Sample::BASE, mem_size: u64::MAX }),
            ),
            (
                second(|header| header.vaddr = TASK_SIZE),
                Some(Error::SegmentOutside { index: 1, vaddr: TASK_SIZE, mem_size: 0x1000 }),
            ),
            (
                second(|header| header.offset = 1 << 63),
                Some(Error::SegmentOffset { index: 1, offset: 1 << 63 }),
            ),
            (second(|header| (header.file_size, header.mem_size) = (0, 0)), None),
            (second(|header| header.vaddr = Sample::BASE), None),
            (second(|header| header.vaddr = Sample::BASE - 0x10_0000), None),
            (first(|header| (header.file_size, header.mem_size) = (0x5000, 0x5000)), None),
            (first(|header| header.align = 3), None),
        ]
    }

    fn rows() -> impl Iterator<Item = Row> {
        header_rows().into_iter().chain(segment_rows())
    }

    #[test]
    fn finds_the_fault_and_the_kernel_agrees() {
        for (bytes, expected) in rows() {
            let parsed = Image::parse(&bytes);
            assert_eq!(parsed.as_ref().err().copied(), expected);
            let file = Executable::new("program", &bytes);
            assert_eq!(predicted(parsed, Role::Program), native(&file), "{expected:?}");
        }
    }

    #[test]
    fn the_kernel_agrees_about_dynamic_loaders() {
        for (bytes, error) in rows() {
            let file = Executable::new("interpreter", &bytes);
            let name = [file.path(), b"\0"].concat();
            let program = Executable::new("interpreted", &interpreter(&name, name.len() as u64));
            let fate = predicted(Image::parse_interpreter(&bytes), Role::Interpreter);
            assert_eq!(fate, native(&program), "{error:?} as a program");
        }
    }

    fn number() -> impl Strategy<Value = u64> {
        let edges =
            [0, 1, 3, 0x800, 0xfff, 0x1000, 0x40_0000, TASK_SIZE - 0x1000, TASK_SIZE, 1 << 63, u64::MAX];
        prop_oneof![prop::sample::select(edges.to_vec()), 0_u64..0x10_0000, any::<u64>()]
    }

    fn any_header() -> impl Strategy<Value = ProgramHeader> {
        let kind = prop::sample::select(std::vec![0_u32, 1, 1, 1, 3]);
        let page = (0_u64..0x1000, 0_u64..8, 0_u64..0x2000);
        let sane =
            page.prop_map(|(in_page, page, size)| (page * 0x1000 + in_page, 0x50_0000 + in_page, size, size));
        let wild = (number(), number(), number(), number());
        (kind, 0_u32..8, prop_oneof![sane, wild], number()).prop_map(|(kind, flags, place, align)| {
            let (offset, vaddr, file_size, mem_size) = place;
            ProgramHeader { kind, flags, offset, vaddr, file_size, mem_size, align }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_kernel_agrees_about_programs_of_chance(
            headers in prop::collection::vec(any_header(), 0..4),
            file_type in prop::sample::select(std::vec![2_u16, 2, 3, 3, 1]),
            headers_at in prop_oneof![4 => Just(64), 1 => number()],
            header_len in prop::sample::select(std::vec![56_u16, 56, 56, 56, 55]),
        ) {
            let named = headers.iter().any(|header| header.kind == 3);
            let bytes = Sample::altered(|sample| {
                (sample.file_type, sample.headers_at, sample.header_len) = (file_type, headers_at, header_len);
                sample.headers.extend(headers);
            });
            let parsed = Image::parse(&bytes);
            let error = parsed.as_ref().err().copied();
            // The kernel opens the dynamic loader before it looks at segments; that this one exists is unlikely.
            prop_assume!(!named || error.is_some_and(|error| !error.kills(Role::Program)));
            let fate = Executable::new("chance", &bytes).run().map(|output| output.status.signal());
            match predicted(parsed, Role::Program) {
                Fate::Refused(errno) => prop_assert_eq!(fate, Err(errno)),
                Fate::Killed => prop_assert_eq!(fate, Ok(Some(SIGSEGV)), "{:?}", error),
                // What is mapped over the code, or over the stack, decides what becomes of it.
                Fate::Runs => prop_assert!(fate.is_ok(), "{:?}", fate),
            }
        }
    }

    #[test]
    fn a_fault_is_told_with_its_numbers() {
        let outside = Error::SegmentOutside { index: 2, vaddr: 0x1000, mem_size: 0xf000 };
        assert_eq!(outside.to_string(), "segment 2 (0xf000 bytes at 0x1000) lies outside the address space");
        assert_eq!(Error::Machine(183).to_string(), "a program for another machine (183)");
    }
}
