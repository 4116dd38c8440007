//! What the kernel keeps about a process image.

use linux_raw_sys::prctl;

/// `prctl` option: sets the thread's name.
pub const PR_SET_NAME: u64 = prctl::PR_SET_NAME as u64;
/// `prctl` option: sets parts of the memory descriptor.
pub const PR_SET_MM: u64 = prctl::PR_SET_MM as u64;
/// `prctl` option: where the kernel writes 0 once the thread leaves its memory (`set_tid_address`).
pub const PR_GET_TID_ADDRESS: u64 = prctl::PR_GET_TID_ADDRESS as u64;
/// `prctl` option: whether an exec can't change ids any more.
pub const PR_GET_NO_NEW_PRIVS: u64 = prctl::PR_GET_NO_NEW_PRIVS as u64;
/// `prctl` option: sets an attribute of a mapping.
pub const PR_SET_VMA: u64 = prctl::PR_SET_VMA as u64;
/// Second argument of `PR_SET_VMA`: the name of anonymous memory.
pub const PR_SET_VMA_ANON_NAME: u64 = prctl::PR_SET_VMA_ANON_NAME as u64;
/// Second argument of `PR_SET_MM`: all parts at once.
pub const PR_SET_MM_MAP: u64 = prctl::PR_SET_MM_MAP as u64;
/// `personality` flag: no randomised addresses.
pub const ADDR_NO_RANDOMIZE: u64 = 0x004_0000;
/// `personality` flag: readable mappings are executable.
pub const READ_IMPLIES_EXEC: u64 = 0x040_0000;

/// `prctl` option: asks whether memory may become executable (include/uapi/linux/prctl.h, Linux 6.3).
pub const PR_GET_MDWE: u64 = 66;
/// Answer to `PR_GET_MDWE`: it may not.
pub const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;
/// `prctl` option: has the thread's calls raise signals.
pub const PR_SET_SYSCALL_USER_DISPATCH: u32 = prctl::PR_SET_SYSCALL_USER_DISPATCH;
/// Second argument of `PR_SET_SYSCALL_USER_DISPATCH`: none of them.
pub const PR_SYS_DISPATCH_OFF: u64 = prctl::PR_SYS_DISPATCH_OFF as u64;
/// Second argument of `PR_SET_SYSCALL_USER_DISPATCH`: those not made from a range of addresses.
pub const PR_SYS_DISPATCH_ON: u64 = prctl::PR_SYS_DISPATCH_ON as u64;
/// Second argument of `PR_SET_SYSCALL_USER_DISPATCH`: those made from a range of addresses.
pub const PR_SYS_DISPATCH_INCLUSIVE_ON: u64 = prctl::PR_SYS_DISPATCH_INCLUSIVE_ON as u64;
/// Value of the selector of `PR_SET_SYSCALL_USER_DISPATCH`: calls are made (include/uapi/linux/prctl.h).
pub const SYSCALL_DISPATCH_ALLOW: u32 = 0;
/// As [`SYSCALL_DISPATCH_ALLOW`]: they raise signals.
pub const SYSCALL_DISPATCH_BLOCK: u32 = 1;
/// `prctl` option: restricts the thread's calls.
pub const PR_SET_SECCOMP: u32 = prctl::PR_SET_SECCOMP;
/// Second argument of `PR_SET_SECCOMP`: to four calls (include/uapi/linux/seccomp.h).
pub const SECCOMP_MODE_STRICT: u64 = 1;
/// Second argument of `PR_SET_SECCOMP`: to what a filter lets through.
pub const SECCOMP_MODE_FILTER: u64 = 2;
/// First argument of `seccomp`, as [`SECCOMP_MODE_STRICT`].
pub const SECCOMP_SET_MODE_STRICT: u32 = 0;
/// First argument of `seccomp`, as [`SECCOMP_MODE_FILTER`].
pub const SECCOMP_SET_MODE_FILTER: u32 = 1;
/// Flag of `seccomp`: answers with a descriptor.
pub const SECCOMP_FILTER_FLAG_NEW_LISTENER: u64 = 1 << 3;
/// Flag of `seccomp`: for all threads of the process.
pub const SECCOMP_FILTER_FLAG_TSYNC: u64 = 1;

/// Where the parts of a process image lie: `struct prctl_mm_map` (include/uapi/linux/prctl.h).
pub use linux_raw_sys::prctl::prctl_mm_map as ImageMap;

/// `clone` flag: the child runs in the caller's memory.
pub const CLONE_VM: u64 = linux_raw_sys::general::CLONE_VM as u64;
/// `clone` flag: the child has the caller's descriptors.
pub const CLONE_FILES: u64 = linux_raw_sys::general::CLONE_FILES as u64;
/// `clone` flag: the caller waits until the child execs or ends.
pub const CLONE_VFORK: u64 = linux_raw_sys::general::CLONE_VFORK as u64;
/// `clone` flag: the child is a thread of the caller's process.
pub const CLONE_THREAD: u64 = linux_raw_sys::general::CLONE_THREAD as u64;
/// `clone` flag: the child starts with the fs base given.
pub const CLONE_SETTLS: u64 = linux_raw_sys::general::CLONE_SETTLS as u64;
/// `arch_prctl` code: sets the fs base (arch/x86/include/uapi/asm/prctl.h).
pub const ARCH_SET_FS: u32 = 0x1002;

/// Whether `reboot` with these arguments is to end the machine, or the process-id namespace (kernel/reboot.c).
#[must_use]
pub const fn ends_machine(args: [u64; 6]) -> bool {
    use linux_raw_sys::general as raw;
    let [first, second, command, ..] = args;
    let is_magic = first as u32 == raw::LINUX_REBOOT_MAGIC1
        && matches!(
            second as u32,
            raw::LINUX_REBOOT_MAGIC2
                | raw::LINUX_REBOOT_MAGIC2A
                | raw::LINUX_REBOOT_MAGIC2B
                | raw::LINUX_REBOOT_MAGIC2C
        );
    is_magic
        && matches!(
            command as u32,
            raw::LINUX_REBOOT_CMD_RESTART
                | raw::LINUX_REBOOT_CMD_HALT
                | raw::LINUX_REBOOT_CMD_POWER_OFF
                | raw::LINUX_REBOOT_CMD_RESTART2
                | raw::LINUX_REBOOT_CMD_KEXEC
        )
}

/// `capget`'s header and data (include/uapi/linux/capability.h).
pub use linux_raw_sys::general::{
    __user_cap_data_struct as CapabilityData, __user_cap_header_struct as CapabilityHeader,
    _LINUX_CAPABILITY_VERSION_3 as CAPABILITY_VERSION, CAP_SYS_BOOT,
};

/// `membarrier` command: all cores that run threads of the process execute a serialising instruction before it returns.
pub const MEMBARRIER_SYNC_CORE: u64 =
    linux_raw_sys::general::membarrier_cmd::MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE as u64;
/// `membarrier` command: the process is going to use that.
pub const MEMBARRIER_REGISTER_SYNC_CORE: u64 =
    linux_raw_sys::general::membarrier_cmd::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE as u64;
