//! Protection and flags of mappings.

use linux_raw_sys::general;

/// Access rights of pages: `PROT_READ`, `PROT_WRITE` and `PROT_EXEC` in any mixture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Protection(u32);

impl Protection {
    /// No access.
    pub const NONE: Self = Self(general::PROT_NONE);
    /// Reading.
    pub const READ: Self = Self(general::PROT_READ);
    /// Reading and writing.
    pub const READ_WRITE: Self = Self(general::PROT_READ | general::PROT_WRITE);
    /// Reading and executing.
    pub const READ_EXECUTE: Self = Self(general::PROT_READ | general::PROT_EXEC);

    /// The rights named.
    #[must_use]
    pub const fn new(readable: bool, writable: bool, executable: bool) -> Self {
        let mut bits = 0;
        if readable {
            bits |= general::PROT_READ;
        }
        if writable {
            bits |= general::PROT_WRITE;
        }
        if executable {
            bits |= general::PROT_EXEC;
        }
        Self(bits)
    }

    /// The `prot` argument of a call, other bits included.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The `prot` argument.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether execution is asked for.
    #[must_use]
    pub const fn executable(self) -> bool {
        self.0 & general::PROT_EXEC != 0
    }

    /// Whether reading is asked for.
    #[must_use]
    pub const fn readable(self) -> bool {
        self.0 & general::PROT_READ != 0
    }

    /// Whether writing is asked for.
    #[must_use]
    pub const fn writable(self) -> bool {
        self.0 & general::PROT_WRITE != 0
    }

    /// What the loader needs while it patches: readable, writable, not yet executable.
    #[must_use]
    pub const fn while_patching(self) -> Self {
        Self((self.0 | general::PROT_READ | general::PROT_WRITE) & !general::PROT_EXEC)
    }
}

/// Whether writes stay in the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// `MAP_PRIVATE`: copy on write.
    Private,
    /// `MAP_SHARED`.
    Shared,
}

impl Sharing {
    /// Its bit in the `flags` argument.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Private => general::MAP_PRIVATE,
            Self::Shared => general::MAP_SHARED,
        }
    }
}

/// `MAP_FIXED`.
pub const FIXED: u32 = general::MAP_FIXED;
/// `MAP_FIXED_NOREPLACE`.
pub const FIXED_NOREPLACE: u32 = general::MAP_FIXED_NOREPLACE;
/// `MAP_ANONYMOUS`.
pub const ANONYMOUS: u32 = general::MAP_ANONYMOUS;
/// `MAP_NORESERVE`.
pub const NORESERVE: u32 = general::MAP_NORESERVE;
/// `MAP_TYPE`: the bits that tell private from shared.
pub const TYPE: u32 = general::MAP_TYPE;
/// `PROT_GROWSDOWN`: applies to the whole of a mapping that grows down.
pub const GROWS_DOWN: u32 = general::PROT_GROWSDOWN;
/// `MREMAP_FIXED`.
pub const REMAP_FIXED: u32 = general::MREMAP_FIXED;
/// `MREMAP_MAYMOVE`.
pub const REMAP_MAYMOVE: u32 = general::MREMAP_MAYMOVE;
/// `MREMAP_DONTUNMAP`.
pub const REMAP_DONTUNMAP: u32 = general::MREMAP_DONTUNMAP;
/// What `madvise` is told by whoever does not need the contents of pages any more: `MADV_DONTNEED`, `MADV_FREE`,
/// `MADV_REMOVE`, `MADV_DONTNEED_LOCKED`.
pub const DISCARDING_ADVICE: [u32; 4] =
    [general::MADV_DONTNEED, general::MADV_FREE, general::MADV_REMOVE, general::MADV_DONTNEED_LOCKED];
/// Flag of `shmat`: replaces what lies there (include/uapi/linux/shm.h).
pub const SHM_REMAP: u32 = 0o40000;
/// Flag of `shmat`: execution.
pub const SHM_EXEC: u32 = 0o100000;
