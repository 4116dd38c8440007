//! The auxiliary vector: what the kernel tells a program beside its arguments and environment.
//!
//! A kind is a number, not an enum: a newer kernel hands over kinds that no list here knows, and they must
//! reach the program unchanged.

use core::fmt;

use linux_raw_sys::auxvec;

/// The kind of an entry: an `AT_` number of include/uapi/linux/auxvec.h.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct AuxKind(pub u64);

/// One entry of the vector, as it lies in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct AuxEntry {
    /// What it tells.
    pub kind: AuxKind,
    /// A number or an address, as the kind says.
    pub value: u64,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:ident,)+) => {
        impl AuxKind {
            $($(#[doc = $doc])+ pub const $name: Self = Self(auxvec::$number as u64);)+

            /// The name in the kernel's header, if this list knows it.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($number)),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// The end of the vector.
    NULL = AT_NULL,
    /// An entry to be passed over.
    IGNORE = AT_IGNORE,
    /// A descriptor of the program file (`binfmt_misc` only).
    EXECFD = AT_EXECFD,
    /// The address of the program headers.
    PHDR = AT_PHDR,
    /// The size of one program header in bytes.
    PHENT = AT_PHENT,
    /// The number of program headers.
    PHNUM = AT_PHNUM,
    /// The page size in bytes.
    PAGESZ = AT_PAGESZ,
    /// The load bias of the dynamic loader; zero for a program without one.
    BASE = AT_BASE,
    /// Flags; bit 0 says that `binfmt_misc` kept `argv[0]`.
    FLAGS = AT_FLAGS,
    /// The entry point of the program, never that of its dynamic loader.
    ENTRY = AT_ENTRY,
    /// Not zero if the program is not ELF.
    NOTELF = AT_NOTELF,
    /// The real user.
    UID = AT_UID,
    /// The effective user.
    EUID = AT_EUID,
    /// The real group.
    GID = AT_GID,
    /// The effective group.
    EGID = AT_EGID,
    /// The address of the name of the machine.
    PLATFORM = AT_PLATFORM,
    /// What the processor can do: edx of CPUID leaf 1.
    HWCAP = AT_HWCAP,
    /// How many ticks `times` counts a second.
    CLKTCK = AT_CLKTCK,
    /// Not zero if the program gained privileges by `execve`.
    SECURE = AT_SECURE,
    /// The address of the name of the real machine.
    BASE_PLATFORM = AT_BASE_PLATFORM,
    /// The address of 16 random bytes.
    RANDOM = AT_RANDOM,
    /// More of what the processor can do.
    HWCAP2 = AT_HWCAP2,
    /// The size of the kernel's restartable-sequence area in bytes.
    RSEQ_FEATURE_SIZE = AT_RSEQ_FEATURE_SIZE,
    /// The alignment of that area in bytes.
    RSEQ_ALIGN = AT_RSEQ_ALIGN,
    /// More of what the processor can do.
    HWCAP3 = AT_HWCAP3,
    /// More of what the processor can do.
    HWCAP4 = AT_HWCAP4,
    /// The address of the path that was passed to `execve`; for a script the script's.
    EXECFN = AT_EXECFN,
    /// The address of the vDSO's file header.
    SYSINFO_EHDR = AT_SYSINFO_EHDR,
    /// The smallest signal stack in bytes.
    MINSIGSTKSZ = AT_MINSIGSTKSZ,
}

impl AuxEntry {
    /// The size of an entry in bytes.
    pub const LEN: usize = size_of::<Self>();

    /// The entry that ends a vector.
    pub const END: Self = Self { kind: AuxKind::NULL, value: 0 };
}

impl fmt::Display for AuxKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "AT_{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn an_unknown_kind_has_a_number_for_a_name() {
        assert_eq!(AuxKind::BASE_PLATFORM.to_string(), "AT_BASE_PLATFORM");
        assert_eq!(AuxKind(4711).to_string(), "AT_4711");
    }

    #[test]
    fn knows_every_kind_that_this_kernel_hands_over() {
        let vector = std::fs::read("/proc/self/auxv").unwrap();
        let kinds =
            vector.chunks_exact(AuxEntry::LEN).map(|entry| u64::from_le_bytes(*entry.first_chunk().unwrap()));
        let unknown: Vec<u64> = kinds.filter(|&kind| AuxKind(kind).name().is_none()).collect();
        assert_eq!(unknown, []);
    }
}
