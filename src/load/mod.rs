//! Puts a program into memory as the kernel would. Zone: load.

pub(crate) mod jump_asm;
pub(crate) mod map;
pub(crate) mod path;
pub(crate) mod rendezvous;
pub(crate) mod rendezvous_asm;

use crate::abi::auxv::AuxKind;
use crate::addr::GuestAddr;
use core::ffi::{CStr, c_char};

/// What the kernel put on the initial stack of the loader itself (psABI 3.4.1).
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// The stack pointer that the kernel started it with.
    pub sp: GuestAddr,
    /// The argument strings.
    pub args: &'static [&'static CStr],
    /// The environment strings.
    pub env: &'static [&'static CStr],
    /// The auxiliary vector, without its terminating entry.
    pub auxv: &'static [[u64; 2]],
}

impl Process {
    /// Reads the initial stack.
    ///
    /// # Safety
    ///
    /// `stack` is the stack pointer with which the kernel started the process, and the stack is as it was then.
    #[must_use]
    pub unsafe fn from_stack(stack: *const u64) -> Self {
        // SAFETY: argc stands first; argc pointers and a null follow, then the environment's and a null, then pairs.
        unsafe {
            let argc = *stack as usize;
            let argv = stack.add(1).cast::<*const c_char>();
            let envp = argv.add(argc + 1);
            let mut envc = 0;
            while !(*envp.add(envc)).is_null() {
                envc += 1;
            }
            let auxv = envp.add(envc + 1).cast::<[u64; 2]>();
            let mut entries = 0;
            while (*auxv.add(entries))[0] != 0 {
                entries += 1;
            }
            Self {
                sp: GuestAddr(stack.expose_provenance() as u64),
                args: strings(argv, argc),
                env: strings(envp, envc),
                auxv: core::slice::from_raw_parts(auxv, entries),
            }
        }
    }

    /// The value of the first entry of `kind`.
    #[must_use]
    pub fn aux(&self, kind: u64) -> Option<u64> {
        self.auxv.iter().find(|entry| entry[0] == kind).map(|entry| entry[1])
    }

    /// Whether the kernel started the loader as the interpreter of a program that it has mapped, too: only then it has
    /// a base to tell (fs/binfmt_elf.c, `create_elf_tables`).
    #[must_use]
    pub fn is_interpreter(&self) -> bool {
        self.aux(AuxKind::BASE.0).is_some_and(|base| base != 0)
    }

    /// Whether the program has rights that its caller does not have (AT_SECURE): then the environment is not to be
    /// trusted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.aux(AuxKind::SECURE.0) != Some(0)
    }

    /// The path that was passed to the exec.
    #[must_use]
    pub fn path(&self) -> &'static CStr {
        self.aux(AuxKind::EXECFN.0).map_or(c"", |at| {
            // SAFETY: the kernel points this entry at a string on the initial stack.
            unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance(at as usize)) }
        })
    }

    /// The value of the environment variable `name`.
    #[must_use]
    pub fn variable(&self, name: &[u8]) -> Option<&'static [u8]> {
        self.env.iter().find_map(|text| text.to_bytes().strip_prefix(name)?.strip_prefix(b"="))
    }
}

/// # Safety
///
/// `at` points to `len` pointers to C strings that live as long as the process.
unsafe fn strings(at: *const *const c_char, len: usize) -> &'static [&'static CStr] {
    let mut list = alloc::vec::Vec::with_capacity(len);
    for index in 0..len {
        // SAFETY: the caller vouches for the array and for each string.
        list.push(unsafe { CStr::from_ptr(*at.add(index)) });
    }
    list.leak()
}
