//! What runs behind the `syscall` of a dedicated slot: whether the hook has to see the call. Zone: call.
//!
//! There is no stack and no memory of one's own here, since any number of threads may pass at once. What there is:
//! rcx, which `syscall` destroys and the slot has set to its record; r11, in which the processor has left all flags;
//! and the upper half of rax, since these calls return an int. So the flags may change and are put back from r11.

use crate::abi::open::PATH_MAX;
use crate::runtime::calls::exit_filter::{OWN_INODE, STAT_INODE, STATX_INODE};
use crate::runtime::gate::enter_asm::filtered;
use crate::runtime::gate::record::RESUME_OFFSET;
use crate::runtime::gate::unsaved::unsaved;
use core::arch::naked_asm;

/// `-EACCES`: the loader's file may be unreadable where the program's is not.
const REFUSED: i32 = -13;
/// `-EROFS`: so may its file system be unwritable.
const READ_ONLY: i32 = -30;
/// AC of rflags: unaligned loads fault.
const ALIGNMENT_CHECK: u32 = 1 << 18;

/// Puts the arithmetic flags back from r11; wants rax swapped, and leaves it as the kernel did.
macro_rules! restore {
    () => {
        concat!(
            "mov ax, r11w\n",
            "rol ax, 8\n", // ah = SF ZF AF PF CF, al = the byte with OF
            "and al, 8\n",
            "add al, 0x78\n", // overflows exactly if OF was set
            "sahf\n",
            "bswap rax\n",
            unsaved!(path_result),
            "cdqe\n",
        )
    };
}

/// A filter on the path that a register points to.
macro_rules! path_filter {
    ($(#[$doc:meta])* $name:ident, $path:literal) => {
        $(#[$doc])*
        #[unsafe(naked)]
        pub(crate) unsafe extern "C" fn $name() -> ! {
            naked_asm!(
                concat!(
                    unsaved!(path_result),
                    "test eax, eax\n",
                    "js 3f\n",
                    "bswap rax\n", // the result moves up, which leaves zeros
                    unsaved!(path_swapped),
                    "or rax, r11\n", // the flags fit below
                    unsaved!(path_flags),
                    "xor r11d, r11d\n",
                    "1:\n",
                    "cmp byte ptr [", $path, " + r11], 0\n",
                    "je 20f\n",
                    "cmp byte ptr [", $path, " + r11 + 1], 0\n",
                    "je 21f\n",
                    "cmp byte ptr [", $path, " + r11 + 2], 0\n",
                    "je 22f\n",
                    "cmp byte ptr [", $path, " + r11 + 3], 0\n",
                    "je 23f\n",
                    "add r11d, 4\n",
                    "cmp r11d, {path_max}\n",
                    "jb 1b\n",
                    "jmp 4f\n",
                    "23: inc r11d\n",
                    "22: inc r11d\n",
                    "21: inc r11d\n",
                    "20: inc r11d\n", // length + 1
                    "cmp r11d, 4\n",
                    "jb 5f\n",
                    "cmp byte ptr [", $path, " + r11 - 2], 0x65\n", // e
                    "jne 4f\n",
                    "cmp byte ptr [", $path, " + r11 - 3], 0x78\n", // x
                    "jne 4f\n",
                    "cmp byte ptr [", $path, " + r11 - 4], 0x65\n", // e
                    "je 6f\n",
                    "4:\n", // of no interest
                    "mov r11d, eax\n",
                    unsaved!(path_swapped),
                    restore!(),
                    "jmp [rcx + {resume}]\n",
                    "3:\n", // a failure
                    "cmp eax, {refused}\n",
                    "je 7f\n",
                    "cmp eax, {read_only}\n",
                    "je 7f\n",
                    "bswap rax\n",
                    unsaved!(path_swapped),
                    restore!(),
                    "jmp [rcx + {resume}]\n",
                    unsaved!(path_flags),
                    "5:\n",
                    "cmp r11d, 1\n",
                    "jne 4b\n",
                    "6:\n",
                    "mov r11d, eax\n",
                    unsaved!(path_swapped),
                    restore!(),
                    "jmp {filtered}\n",
                    "7:\n",
                    "bswap rax\n",
                    unsaved!(path_swapped),
                    restore!(),
                    "jmp {filtered}\n",
                    unsaved!(nothing),
                ),
                path_max = const PATH_MAX,
                refused = const REFUSED,
                read_only = const READ_ONLY,
                resume = const RESUME_OFFSET,
                filtered = sym filtered,
            )
        }
    };
}

/// A filter on the inode number in the struct that a register points to.
macro_rules! inode_filter {
    ($(#[$doc:meta])* $name:ident, $buffer:literal, $offset:expr) => {
        $(#[$doc])*
        #[unsafe(naked)]
        pub(crate) unsafe extern "C" fn $name() -> ! {
            naked_asm!(
                concat!(
                    unsaved!(path_result),
                    "test eax, eax\n",
                    "jne 3f\n",
                    "test r11d, {alignment_check}\n",
                    "jne 6f\n",
                    "mov rax, [", $buffer, " + {offset}]\n",
                    unsaved!(path_zero),
                    "cmp rax, [rip + {inode}]\n",
                    "mov eax, 0\n",
                    unsaved!(path_result),
                    "je 6f\n",
                    "3:\n", // of no interest
                    "bswap rax\n",
                    unsaved!(path_swapped),
                    restore!(),
                    "jmp [rcx + {resume}]\n",
                    "6:\n",
                    "bswap rax\n",
                    unsaved!(path_swapped),
                    restore!(),
                    "jmp {filtered}\n",
                    unsaved!(nothing),
                ),
                alignment_check = const ALIGNMENT_CHECK,
                offset = const $offset,
                inode = sym OWN_INODE,
                resume = const RESUME_OFFSET,
                filtered = sym filtered,
            )
        }
    };
}

path_filter!(
    /// `open`, `access`, `readlink`.
    ///
    /// | on entry | rcx: the record · r11: rflags · rax: result · rdi: the path · all else as the kernel left it |
    /// | on exit  | at the stub's way back, or at [`filtered`]: all as on entry |
    /// | stack    | the program's is neither read nor written |
    ///
    /// # Safety
    ///
    /// Reached only from a slot dedicated to such calls.
    path_in_rdi, "rdi"
);

path_filter!(
    /// `openat`, `openat2`, `faccessat`, `faccessat2`, `readlinkat`.
    ///
    /// | on entry | rcx: the record · r11: rflags · rax: result · rsi: the path · all else as the kernel left it |
    /// | on exit  | at the stub's way back, or at [`filtered`]: all as on entry |
    /// | stack    | the program's is neither read nor written |
    ///
    /// # Safety
    ///
    /// Reached only from a slot dedicated to such calls.
    path_in_rsi, "rsi"
);

inode_filter!(
    /// `stat`.
    ///
    /// | on entry | rcx: the record · r11: rflags · rax: result · rsi: the struct · all else as the kernel left it |
    /// | on exit  | at the stub's way back, or at [`filtered`]: all as on entry |
    /// | stack    | the program's is neither read nor written |
    ///
    /// # Safety
    ///
    /// Reached only from a slot dedicated to such calls.
    stat_in_rsi, "rsi", STAT_INODE
);

inode_filter!(
    /// `newfstatat`.
    ///
    /// | on entry | rcx: the record · r11: rflags · rax: result · rdx: the struct · all else as the kernel left it |
    /// | on exit  | at the stub's way back, or at [`filtered`]: all as on entry |
    /// | stack    | the program's is neither read nor written |
    ///
    /// # Safety
    ///
    /// Reached only from a slot dedicated to such calls.
    stat_in_rdx, "rdx", STAT_INODE
);

inode_filter!(
    /// `statx`.
    ///
    /// | on entry | rcx: the record · r11: rflags · rax: result · r8: the struct · all else as the kernel left it |
    /// | on exit  | at the stub's way back, or at [`filtered`]: all as on entry |
    /// | stack    | the program's is neither read nor written |
    ///
    /// # Safety
    ///
    /// Reached only from a slot dedicated to such calls.
    statx_in_r8, "r8", STATX_INODE
);
