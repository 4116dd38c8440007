//! Ids, exits, and what the kernel keeps about the process image. Zone: call.

use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::abi::sysno;
use crate::addr::{AddrRange, PAGE};
use crate::sys::{call, gate_asm, ids, mem};
use core::ffi::CStr;

/// Lets a millisecond pass.
pub(crate) fn doze() {
    let interval = [0_u64, 1_000_000]; // struct timespec
    // SAFETY: the kernel reads the interval.
    let _ = unsafe { call(sysno::NANOSLEEP, [interval.as_ptr().addr() as u64, 0, 0, 0, 0, 0]) };
}

/// The time of day in `milliseconds` from now, as seconds and nanoseconds (`struct timespec`).
#[must_use]
pub(crate) fn real_time_after(milliseconds: u64) -> [u64; 2] {
    const CLOCK_REALTIME: u64 = 0;
    const SECOND: u64 = 1_000_000_000;
    let mut now = [0_u64; 2];
    // SAFETY: the kernel writes `now`.
    let _ =
        unsafe { call(sysno::CLOCK_GETTIME, [CLOCK_REALTIME, now.as_mut_ptr().addr() as u64, 0, 0, 0, 0]) };
    let nanoseconds = now[1] + milliseconds * 1_000_000;
    [now[0] + nanoseconds / SECOND, nanoseconds % SECOND]
}

/// Whether the thread that this thread's pid namespace calls `thread` is no more.
#[must_use]
pub(crate) fn is_gone(thread: u32) -> bool {
    // SAFETY: signal 0 is none.
    unsafe { call(sysno::TKILL, [thread.into(), 0, 0, 0, 0, 0]) == Err(Errno::ESRCH) }
}

/// The execution domain's flags.
#[must_use]
pub(crate) fn personality() -> u64 {
    const QUERY: u64 = 0xffff_ffff;
    // SAFETY: the query changes nothing.
    unsafe { gate_asm::syscall(sysno::PERSONALITY, QUERY, 0, 0, 0, 0, 0) }
}

/// Sets the thread's name, at most 15 bytes of it.
pub(crate) fn set_name(name: &CStr) {
    // SAFETY: the kernel reads the string.
    let _ = unsafe {
        call(sysno::PRCTL, [crate::abi::process::PR_SET_NAME, name.as_ptr().addr() as u64, 0, 0, 0, 0])
    };
}

/// Tells the kernel where the parts of the process image lie (`/proc/self/{auxv,cmdline,environ,stat}`, `brk`).
///
/// # Errors
///
/// `EINVAL` where the kernel has no checkpoint support or an address is out of order.
pub(crate) fn set_image(image: &crate::abi::process::ImageMap) -> Result<(), Errno> {
    use crate::abi::process::{PR_SET_MM, PR_SET_MM_MAP};
    let at = core::ptr::from_ref(image).addr() as u64;
    let args = [PR_SET_MM, PR_SET_MM_MAP, at, size_of_val(image) as u64, 0, 0];
    // SAFETY: the kernel reads `image` and what it says about the auxiliary vector; it writes no memory of ours.
    unsafe { call(sysno::PRCTL, args) }.map(drop)
}

/// Major and minor number of the kernel's release.
#[must_use]
pub(crate) fn release() -> (u32, u32) {
    // struct new_utsname: six strings of 65 bytes, the third is the release (include/uapi/linux/utsname.h).
    const FIELD: usize = 65;
    let mut names = [0_u8; 6 * FIELD];
    // SAFETY: the kernel fills `names`, which has the length of its struct.
    let _ = unsafe { call(sysno::UNAME, [names.as_mut_ptr().addr() as u64, 0, 0, 0, 0, 0]) };
    let release = names.get(2 * FIELD..3 * FIELD).unwrap_or_default();
    let mut numbers = release.split(|byte| !byte.is_ascii_digit());
    let mut next =
        || numbers.next().and_then(|digits| core::str::from_utf8(digits).ok()?.parse().ok()).unwrap_or(0);
    (next(), next())
}

/// Whether memory that was not executable when it was mapped can become so.
#[must_use]
pub(crate) fn memory_may_become_executable() -> bool {
    use crate::abi::process::{PR_GET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN};
    // SAFETY: the query touches no memory.
    let answer = unsafe { call(sysno::PRCTL, [PR_GET_MDWE, 0, 0, 0, 0, 0]) };
    answer.is_ok_and(|bits| bits & PR_MDWE_REFUSE_EXEC_GAIN == 0) || answer.is_err()
}

/// Has every core that runs a thread of this process look again at the code that it executes.
///
/// Without the call made for that (Linux 4.16), a page is mapped, touched and unmapped: to forget its translation the other
/// cores are interrupted, and the return from an interrupt serialises (SDM vol. 3A, 9.3). Where the processor broadcasts
/// that by itself, which those old kernels do not know of, it does not.
pub(crate) fn synchronize_cores() {
    use crate::abi::process::{MEMBARRIER_REGISTER_SYNC_CORE, MEMBARRIER_SYNC_CORE};
    // SAFETY: neither command touches memory.
    let barrier = |command: u64| unsafe { call(sysno::MEMBARRIER, [command, 0, 0, 0, 0, 0]) };
    let is_done = barrier(MEMBARRIER_SYNC_CORE)
        .or_else(|_| barrier(MEMBARRIER_REGISTER_SYNC_CORE).and_then(|_| barrier(MEMBARRIER_SYNC_CORE)));
    if is_done.is_ok() {
        return;
    }
    let page = mem::map_anonymous(mem::Place::Anywhere, PAGE, Protection::READ_WRITE);
    if let Ok(page) = page {
        // SAFETY: the page is new.
        unsafe { core::ptr::with_exposed_provenance_mut::<u8>(page.0 as usize).write_volatile(1) };
        mem::unmap(AddrRange::new(page, page.wrapping_add(PAGE)));
    }
}

/// Random bytes from the kernel.
///
/// # Errors
///
/// The kernel's, before 3.17 `ENOSYS`.
pub(crate) fn random() -> Result<u64, Errno> {
    const NONBLOCK: u64 = 1;
    let mut bytes = [0_u8; 8];
    // SAFETY: the kernel writes into `bytes` only.
    unsafe { call(sysno::GETRANDOM, [bytes.as_mut_ptr().addr() as u64, 8, NONBLOCK, 0, 0, 0]) }?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Makes calls from elsewhere than `allowed` raise SIGSYS in the calling thread, or none at `None`.
///
/// # Errors
///
/// `EINVAL` before Linux 5.11; the kernel's, or a filter's.
pub(crate) fn dispatch_calls(allowed: Option<AddrRange>) -> Result<(), Errno> {
    use crate::abi::process::{PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, PR_SYS_DISPATCH_ON};
    let mode = if allowed.is_some() { PR_SYS_DISPATCH_ON } else { PR_SYS_DISPATCH_OFF };
    let (start, len) = allowed.map_or((0, 0), |range| (range.start.0, range.len()));
    // SAFETY: the loader's own calls are in the range.
    unsafe { call(sysno::PRCTL, [PR_SET_SYSCALL_USER_DISPATCH.into(), mode, start, len, 0, 0]) }.map(drop)
}

/// Whether `at` is an address that a process can have (`access_ok`), be it mapped or not.
#[must_use]
pub(crate) fn may_have(at: crate::addr::GuestAddr) -> bool {
    // The kernel looks at the local side first, and with nothing on the other one goes no further
    // (mm/process_vm_access.c, `process_vm_rw`).
    const LOWER_HALF: u64 = 1 << 47;
    let ours = [at.0, 1];
    let args = [u64::from(ids::id()), ours.as_ptr().addr() as u64, 1, 0, 0, 0];
    // SAFETY: nothing is read or written.
    match unsafe { call(sysno::PROCESS_VM_READV, args) } {
        Ok(_) => true,
        Err(Errno::EFAULT) => false,
        Err(_) => at.0 < LOWER_HALF,
    }
}

/// The end of the heap.
#[must_use]
pub(crate) fn current_break() -> u64 {
    // SAFETY: a break of 0 is refused; the answer is the current one.
    unsafe { gate_asm::syscall(sysno::BRK, 0, 0, 0, 0, 0, 0) }
}

/// Executes another program: comes back if that fails, or if it was only to be checked.
pub(crate) fn execute(nr: u32, args: [u64; 6]) -> Option<Errno> {
    // SAFETY: the kernel reads the path and the vectors, which it checks; on success nothing of this image is left.
    unsafe { call(nr, args) }.err()
}

/// As [`execute`], when it is the program that executes another.
pub(crate) fn execute_as_asked(nr: u32, args: [u64; 6]) -> Option<Errno> {
    // SAFETY: as above.
    unsafe { super::program_call(nr, args) }.err()
}

/// Where the kernel writes 0 when the thread leaves its memory; 0 for nowhere.
///
/// # Errors
///
/// `EINVAL` where the kernel has no checkpoint support.
pub(crate) fn tid_address() -> Result<u64, Errno> {
    let mut at = 0_u64;
    let args =
        [crate::abi::process::PR_GET_TID_ADDRESS, (&raw mut at).expose_provenance() as u64, 0, 0, 0, 0];
    // SAFETY: the kernel writes `at`.
    unsafe { call(sysno::PRCTL, args) }?;
    Ok(at)
}

/// Makes the kernel write 0 to `word` when the thread leaves its memory to other processes; to nothing at `None`.
pub(crate) fn set_tid_address(word: Option<&core::sync::atomic::AtomicU32>) {
    let at = word.map_or(0, |word| word.as_ptr().expose_provenance() as u64);
    // SAFETY: what the kernel writes to is an atomic, which anybody may write.
    let _ = unsafe { call(sysno::SET_TID_ADDRESS, [at, 0, 0, 0, 0, 0]) };
}

/// Whether an exec can't change ids any more.
#[must_use]
pub(crate) fn has_no_new_privileges() -> bool {
    // SAFETY: the query touches no memory.
    let answer = unsafe { call(sysno::PRCTL, [crate::abi::process::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0, 0]) };
    answer == Ok(1)
}

/// The ids that decide what a process may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ids {
    /// Real user.
    pub user: u32,
    /// Effective user.
    pub effective_user: u32,
    /// Effective group.
    pub effective_group: u32,
}

/// The thread's ids.
#[must_use]
pub(crate) fn ids() -> Ids {
    // SAFETY: the calls touch no memory.
    let ask = |nr| unsafe { call(nr, [0; 6]) }.map_or(0, |id| id as u32);
    Ids {
        user: ask(sysno::GETUID),
        effective_user: ask(sysno::GETEUID),
        effective_group: ask(sysno::GETEGID),
    }
}

/// Whether the thread may end the machine (man 7 capabilities, `CAP_SYS_BOOT`).
#[must_use]
pub(crate) fn may_reboot() -> bool {
    use crate::abi::process::{CAP_SYS_BOOT, CAPABILITY_VERSION, CapabilityData, CapabilityHeader};
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut data = [CapabilityData { effective: 0, permitted: 0, inheritable: 0 }; 2];
    let args = [
        (&raw mut header).expose_provenance() as u64,
        data.as_mut_ptr().expose_provenance() as u64,
        0,
        0,
        0,
        0,
    ];
    // SAFETY: the kernel writes both, which have the layout of this version.
    let asked = unsafe { call(sysno::CAPGET, args) };
    asked.is_ok() && data[0].effective & 1 << CAP_SYS_BOOT != 0
}
