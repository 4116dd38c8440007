//! Files for tests that ask the kernel: a small program made of parts, and a way to execute it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::vec::Vec;

use super::header::{FILE_HEADER_LEN, PROGRAM_HEADER_LEN, ProgramHeader};

/// The parts of a file that, unchanged, is a fixed program of one page which exits with [`Sample::STATUS`].
pub(super) struct Sample {
    pub(super) class: u8,
    pub(super) data: u8,
    pub(super) version: u8,
    pub(super) file_type: u16,
    pub(super) machine: u16,
    pub(super) entry: u64,
    pub(super) headers_at: u64,
    pub(super) header_len: u16,
    /// What `e_phnum` says, if not the truth.
    pub(super) header_count: Option<u16>,
    pub(super) headers: Vec<ProgramHeader>,
    /// The path of the dynamic loader and where it lies.
    name: (u64, Vec<u8>),
    /// The length of the file in bytes; parts that do not fit are left out.
    len: usize,
}

/// A readable and executable segment that maps the first page of the file.
pub(super) fn segment(vaddr: u64) -> ProgramHeader {
    ProgramHeader { kind: 1, flags: 5, offset: 0, vaddr, file_size: 0x1000, mem_size: 0x1000, align: 0x1000 }
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            class: 2,
            data: 1,
            version: 1,
            file_type: 2,
            machine: 62,
            entry: Self::BASE + Self::CODE_AT as u64,
            headers_at: FILE_HEADER_LEN as u64,
            header_len: 56,
            header_count: None,
            headers: std::vec![segment(Self::BASE)],
            name: (0, Vec::new()),
            len: 0x1000,
        }
    }
}

impl Sample {
    /// The file that comes of `alter`ing the parts.
    pub(super) fn altered(alter: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut sample = Self::default();
        alter(&mut sample);
        sample.bytes()
    }

    /// The status that the program exits with.
    pub(super) const STATUS: i32 = 7;
    /// Where its page is linked.
    pub(super) const BASE: u64 = 0x40_0000;
    const CODE_AT: usize = 0x800;
    /// `mov eax, 60; mov edi, 7; syscall`
    const CODE: [u8; 12] = [0xb8, 60, 0, 0, 0, 0xbf, 7, 0, 0, 0, 0x0f, 0x05];

    /// Adds a `PT_INTERP` of `len` bytes at `offset`, which hold `name`.
    pub(super) fn name_interpreter(&mut self, offset: u64, len: u64, name: &[u8]) {
        self.headers.push(ProgramHeader {
            kind: 3,
            flags: 4,
            offset,
            vaddr: 0,
            file_size: len,
            mem_size: len,
            align: 1,
        });
        if !name.is_empty() {
            self.name = (offset, name.to_vec());
        }
    }

    /// Adds program headers that say nothing, behind the first page.
    pub(super) fn add_null_headers(&mut self, count: usize) {
        let null =
            ProgramHeader { kind: 0, flags: 0, offset: 0, vaddr: 0, file_size: 0, mem_size: 0, align: 0 };
        self.headers.extend(std::iter::repeat_n(null, count));
        self.headers_at = 0x1000;
        self.len = 0x1000 + self.headers.len() * PROGRAM_HEADER_LEN;
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = std::vec![0; self.len];
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = file.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len())) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &self.file_header());
        let headers: Vec<u8> = self.headers.iter().flat_map(program_header).collect();
        put(usize::try_from(self.headers_at).unwrap(), &headers);
        put(Self::CODE_AT, &Self::CODE);
        put(usize::try_from(self.name.0).unwrap(), &self.name.1);
        file
    }

    fn file_header(&self) -> Vec<u8> {
        let count = self.header_count.unwrap_or_else(|| self.headers.len().try_into().unwrap());
        let mut header = std::vec![0x7f, b'E', b'L', b'F', self.class, self.data, self.version];
        header.resize(16, 0);
        header.extend(self.file_type.to_le_bytes());
        header.extend(self.machine.to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        header.extend([self.entry, self.headers_at, 0].into_iter().flat_map(u64::to_le_bytes));
        header.extend(0_u32.to_le_bytes());
        header.extend([64, self.header_len, count, 0, 0, 0].into_iter().flat_map(u16::to_le_bytes));
        header
    }
}

fn program_header(header: &ProgramHeader) -> Vec<u8> {
    let ProgramHeader { kind, flags, offset, vaddr, file_size, mem_size, align } = *header;
    let mut bytes = [kind, flags].into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
    bytes.extend([offset, vaddr, vaddr, file_size, mem_size, align].into_iter().flat_map(u64::to_le_bytes));
    bytes
}

/// A file that may be executed, gone when dropped.
pub(crate) struct Executable(pub(crate) PathBuf);

impl Executable {
    /// Writes `bytes` to a file of that name for this process.
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Self {
        let path = std::env::temp_dir().join(std::format!("{name}-{}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        Self(path)
    }

    /// The bytes of its path.
    pub(crate) fn path(&self) -> &[u8] {
        self.0.as_os_str().as_encoded_bytes()
    }

    /// Runs it with the arguments `zero one` and waits, or tells the error number of `execve`.
    pub(crate) fn run(&self) -> Result<Output, u16> {
        const ETXTBSY: i32 = 26;
        loop {
            match Command::new(&self.0).arg0("zero").arg("one").output() {
                Ok(output) => return Ok(output),
                // A process forked by another test may hold the file open for writing until it calls exec.
                Err(error) if error.raw_os_error() == Some(ETXTBSY) => {}
                Err(error) => return Err(error.raw_os_error().unwrap().try_into().unwrap()),
            }
        }
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
