//! The x86-64 system calls: number, name, what each argument is and what comes back.
//!
//! Numbers and names are the kernel headers' (`arch/x86/entry/syscalls/syscall_64.tbl`); the signatures say
//! just enough to print a call. Each is a word of letters, one an argument, read by `ArgKind::of_letter`,
//! and `=` with how it returns. All is packed while compiling: a signature takes four bytes.
// tidy: table

use linux_raw_sys::general;

use super::packed::{Packed, join, total_len};

/// What an argument of a system call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ArgKind {
    /// A signed 32-bit number.
    Int = 1,
    /// A signed 64-bit number, such as an offset in a file.
    Offset,
    /// An unsigned number, such as a size or a count.
    Size,
    /// A set of flags, or anything else that is best seen in hexadecimal.
    Flags,
    /// File permission bits.
    Mode,
    /// A file descriptor, or `AT_FDCWD`.
    Fd,
    /// The address of a string that ends with a zero byte.
    Path,
    /// The address of bytes that the call reads; the next argument is how many.
    BufferIn,
    /// The address of bytes that the call writes; the result is how many, the next argument how many fit.
    BufferOut,
    /// Any other address.
    Address,
    /// A signal number.
    Signal,
}

impl ArgKind {
    const fn of_letter(letter: u8) -> Self {
        match letter {
            b'd' => Self::Int,
            b'l' => Self::Offset,
            b'u' => Self::Size,
            b'x' => Self::Flags,
            b'o' => Self::Mode,
            b'f' => Self::Fd,
            b's' => Self::Path,
            b'i' => Self::BufferIn,
            b'r' => Self::BufferOut,
            b'p' => Self::Address,
            b'g' => Self::Signal,
            _ => panic!("no kind of argument has this letter"),
        }
    }

    const fn of_bits(bits: u32) -> Option<Self> {
        Some(match bits {
            1 => Self::Int,
            2 => Self::Offset,
            3 => Self::Size,
            4 => Self::Flags,
            5 => Self::Mode,
            6 => Self::Fd,
            7 => Self::Path,
            8 => Self::BufferIn,
            9 => Self::BufferOut,
            10 => Self::Address,
            11 => Self::Signal,
            _ => return None,
        })
    }
}

/// How a call comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Returns {
    /// With a signed number, or an error.
    Number,
    /// With an address, or an error.
    Address,
    /// Only when it failed: `execve`, `execveat`.
    Failure,
    /// Never: `exit`, `exit_group`; and `rt_sigreturn`, which puts back other registers.
    Never,
}

const KIND_BITS: u32 = 4;
const KIND_MASK: u32 = (1 << KIND_BITS) - 1;
const RETURNS_SHIFT: u32 = 6 * KIND_BITS;

/// The arguments of a call and how it comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature(u32);

impl Signature {
    /// Six arguments of which nothing is known, and a number: what an unknown call has.
    const UNKNOWN: Self = Self::parse("xxxxxx");
    /// What a call of the i386 table has, of which nobody hears how it went.
    const UNTOLD: Self = Self::parse("xxxxxx=!");

    /// What argument `index` is, or `None` if the call has no such argument.
    #[must_use]
    pub const fn arg(self, index: usize) -> Option<ArgKind> {
        if index < 6 { ArgKind::of_bits((self.0 >> (index as u32 * KIND_BITS)) & KIND_MASK) } else { None }
    }

    /// How the call comes back.
    #[must_use]
    pub const fn returns(self) -> Returns {
        match self.0 >> RETURNS_SHIFT {
            0 => Returns::Number,
            1 => Returns::Address,
            2 => Returns::Failure,
            _ => Returns::Never,
        }
    }

    const fn parse(word: &str) -> Self {
        let mut bits = 0;
        let mut shift = 0;
        let mut rest = word.as_bytes();
        while let [letter, after @ ..] = rest {
            rest = after;
            if *letter == b'=' {
                break;
            }
            bits |= (ArgKind::of_letter(*letter) as u32) << shift;
            shift += KIND_BITS;
        }
        assert!(shift <= RETURNS_SHIFT, "a call has six arguments at most");
        let returns = match rest {
            [] => 0,
            [b'p'] => 1,
            [b'?'] => 2,
            [b'!'] => 3,
            _ => panic!("no way to return has this letter"),
        };
        Self(bits | returns << RETURNS_SHIFT)
    }
}

/// What calls by `int 0x80` have in the upper half of their number here; the lower is that of the i386 table
/// (arch/x86/entry/syscalls/syscall_32.tbl). Neither x86-64 nor x32 has a call up there.
const I386: u32 = 0x0386_0000;
/// Stands for all numbers that are too high for that.
const I386_LAST: u32 = 0xffff;

/// The number by which the call `nr` of the i386 table is known here.
#[must_use]
pub const fn of_i386(nr: u32) -> u32 {
    I386 | if nr < I386_LAST { nr } else { I386_LAST }
}

/// The number in the i386 table of the call known as `nr`; `None` if it is one of x86-64.
#[must_use]
pub const fn i386(nr: u32) -> Option<u32> {
    if nr & !I386_LAST == I386 { Some(nr & I386_LAST) } else { None }
}

/// `exit` of the i386 table.
pub const I386_EXIT: u32 = 1;
/// `exit_group` of the i386 table.
pub const I386_EXIT_GROUP: u32 = 252;

/// The signature of the call `nr`; six arguments of which nothing is known if the table has no such number.
#[must_use]
pub fn signature(nr: u32) -> Signature {
    if i386(nr).is_some() {
        return Signature::UNTOLD;
    }
    row(nr).and_then(|row| SIGNATURES.get(row)).copied().unwrap_or(Signature::UNKNOWN)
}

/// The name of the call `nr`, such as `openat`, or `None` if the table has no such number.
#[must_use]
pub fn name(nr: u32) -> Option<&'static str> {
    row(nr).and_then(|row| NAMES.get(row))
}

fn row(nr: u32) -> Option<usize> {
    NUMBERS.binary_search(&u16::try_from(nr).ok()?).ok()
}

/// The name in `__NR_name`.
const fn name_of(symbol: &'static str) -> &'static str {
    symbol.split_at("__NR_".len()).1
}

/// Declares a constant a call and, in the same order, the tables behind [`name`] and [`signature`].
macro_rules! calls {
    ($($constant:ident = $symbol:ident, $signature:literal;)*) => {
        $(
            #[doc = concat!("The number of the call behind `", stringify!($symbol), "`.")]
            pub const $constant: u32 = general::$symbol;
        )*
        const COUNT: usize = [$($constant),*].len();
        static NUMBERS: [u16; COUNT] = [$($constant as u16),*];
        static SIGNATURES: [Signature; COUNT] = [$(Signature::parse($signature)),*];
        const NAME_PARTS: [&str; COUNT] = [$(name_of(stringify!($symbol))),*];
    };
}

static JOINED_NAMES: [u8; total_len(&NAME_PARTS)] = join(&NAME_PARTS);
static NAMES: Packed<COUNT> = Packed::new(&NAME_PARTS, &JOINED_NAMES);

// Ascending: `row` searches by halves.
calls! {
    READ = __NR_read, "fru";
    WRITE = __NR_write, "fiu";
    OPEN = __NR_open, "sxo";
    CLOSE = __NR_close, "f";
    STAT = __NR_stat, "sp";
    FSTAT = __NR_fstat, "fp";
    LSTAT = __NR_lstat, "sp";
    POLL = __NR_poll, "pud";
    LSEEK = __NR_lseek, "fld";
    MMAP = __NR_mmap, "puxxfx=p";
    MPROTECT = __NR_mprotect, "pux";
    MUNMAP = __NR_munmap, "pu";
    BRK = __NR_brk, "p=p";
    RT_SIGACTION = __NR_rt_sigaction, "gppu";
    RT_SIGPROCMASK = __NR_rt_sigprocmask, "dppu";
    RT_SIGRETURN = __NR_rt_sigreturn, "=!";
    IOCTL = __NR_ioctl, "fxp";
    PREAD64 = __NR_pread64, "frul";
    PWRITE64 = __NR_pwrite64, "fiul";
    READV = __NR_readv, "fpu";
    WRITEV = __NR_writev, "fpu";
    ACCESS = __NR_access, "so";
    PIPE = __NR_pipe, "p";
    SELECT = __NR_select, "dpppp";
    SCHED_YIELD = __NR_sched_yield, "";
    MREMAP = __NR_mremap, "puuxp=p";
    MSYNC = __NR_msync, "pux";
    MINCORE = __NR_mincore, "pup";
    MADVISE = __NR_madvise, "pud";
    SHMGET = __NR_shmget, "dux";
    SHMAT = __NR_shmat, "dpx=p";
    SHMCTL = __NR_shmctl, "ddp";
    DUP = __NR_dup, "f";
    DUP2 = __NR_dup2, "ff";
    PAUSE = __NR_pause, "";
    NANOSLEEP = __NR_nanosleep, "pp";
    GETITIMER = __NR_getitimer, "dp";
    ALARM = __NR_alarm, "u";
    SETITIMER = __NR_setitimer, "dpp";
    GETPID = __NR_getpid, "";
    SENDFILE = __NR_sendfile, "ffpu";
    SOCKET = __NR_socket, "dxd";
    CONNECT = __NR_connect, "fpu";
    ACCEPT = __NR_accept, "fpp";
    SENDTO = __NR_sendto, "fiuxpu";
    RECVFROM = __NR_recvfrom, "fruxpp";
    SENDMSG = __NR_sendmsg, "fpx";
    RECVMSG = __NR_recvmsg, "fpx";
    SHUTDOWN = __NR_shutdown, "fd";
    BIND = __NR_bind, "fpu";
    LISTEN = __NR_listen, "fd";
    GETSOCKNAME = __NR_getsockname, "fpp";
    GETPEERNAME = __NR_getpeername, "fpp";
    SOCKETPAIR = __NR_socketpair, "dxdp";
    SETSOCKOPT = __NR_setsockopt, "fddpu";
    GETSOCKOPT = __NR_getsockopt, "fddpp";
    CLONE = __NR_clone, "xpppp";
    FORK = __NR_fork, "";
    VFORK = __NR_vfork, "";
    EXECVE = __NR_execve, "spp=?";
    EXIT = __NR_exit, "d=!";
    WAIT4 = __NR_wait4, "dpxp";
    KILL = __NR_kill, "dg";
    UNAME = __NR_uname, "p";
    SEMGET = __NR_semget, "ddx";
    SEMOP = __NR_semop, "dpu";
    SEMCTL = __NR_semctl, "dddp";
    SHMDT = __NR_shmdt, "p";
    MSGGET = __NR_msgget, "dx";
    MSGSND = __NR_msgsnd, "dpux";
    MSGRCV = __NR_msgrcv, "dpulx";
    MSGCTL = __NR_msgctl, "ddp";
    FCNTL = __NR_fcntl, "fdx";
    FLOCK = __NR_flock, "fd";
    FSYNC = __NR_fsync, "f";
    FDATASYNC = __NR_fdatasync, "f";
    TRUNCATE = __NR_truncate, "sl";
    FTRUNCATE = __NR_ftruncate, "fl";
    GETDENTS = __NR_getdents, "fpu";
    GETCWD = __NR_getcwd, "ru";
    CHDIR = __NR_chdir, "s";
    FCHDIR = __NR_fchdir, "f";
    RENAME = __NR_rename, "ss";
    MKDIR = __NR_mkdir, "so";
    RMDIR = __NR_rmdir, "s";
    CREAT = __NR_creat, "so";
    LINK = __NR_link, "ss";
    UNLINK = __NR_unlink, "s";
    SYMLINK = __NR_symlink, "ss";
    READLINK = __NR_readlink, "sru";
    CHMOD = __NR_chmod, "so";
    FCHMOD = __NR_fchmod, "fo";
    CHOWN = __NR_chown, "sdd";
    FCHOWN = __NR_fchown, "fdd";
    LCHOWN = __NR_lchown, "sdd";
    UMASK = __NR_umask, "o";
    GETTIMEOFDAY = __NR_gettimeofday, "pp";
    GETRLIMIT = __NR_getrlimit, "dp";
    GETRUSAGE = __NR_getrusage, "dp";
    SYSINFO = __NR_sysinfo, "p";
    TIMES = __NR_times, "p";
    PTRACE = __NR_ptrace, "ddpp";
    GETUID = __NR_getuid, "";
    SYSLOG = __NR_syslog, "dpu";
    GETGID = __NR_getgid, "";
    SETUID = __NR_setuid, "d";
    SETGID = __NR_setgid, "d";
    GETEUID = __NR_geteuid, "";
    GETEGID = __NR_getegid, "";
    SETPGID = __NR_setpgid, "dd";
    GETPPID = __NR_getppid, "";
    GETPGRP = __NR_getpgrp, "";
    SETSID = __NR_setsid, "";
    SETREUID = __NR_setreuid, "dd";
    SETREGID = __NR_setregid, "dd";
    GETGROUPS = __NR_getgroups, "dp";
    SETGROUPS = __NR_setgroups, "up";
    SETRESUID = __NR_setresuid, "ddd";
    GETRESUID = __NR_getresuid, "ppp";
    SETRESGID = __NR_setresgid, "ddd";
    GETRESGID = __NR_getresgid, "ppp";
    GETPGID = __NR_getpgid, "d";
    SETFSUID = __NR_setfsuid, "d";
    SETFSGID = __NR_setfsgid, "d";
    GETSID = __NR_getsid, "d";
    CAPGET = __NR_capget, "pp";
    CAPSET = __NR_capset, "pp";
    RT_SIGPENDING = __NR_rt_sigpending, "pu";
    RT_SIGTIMEDWAIT = __NR_rt_sigtimedwait, "pppu";
    RT_SIGQUEUEINFO = __NR_rt_sigqueueinfo, "dgp";
    RT_SIGSUSPEND = __NR_rt_sigsuspend, "pu";
    SIGALTSTACK = __NR_sigaltstack, "pp";
    UTIME = __NR_utime, "sp";
    MKNOD = __NR_mknod, "sox";
    USELIB = __NR_uselib, "s";
    PERSONALITY = __NR_personality, "x";
    USTAT = __NR_ustat, "xp";
    STATFS = __NR_statfs, "sp";
    FSTATFS = __NR_fstatfs, "fp";
    SYSFS = __NR_sysfs, "dpp";
    GETPRIORITY = __NR_getpriority, "dd";
    SETPRIORITY = __NR_setpriority, "ddd";
    SCHED_SETPARAM = __NR_sched_setparam, "dp";
    SCHED_GETPARAM = __NR_sched_getparam, "dp";
    SCHED_SETSCHEDULER = __NR_sched_setscheduler, "ddp";
    SCHED_GETSCHEDULER = __NR_sched_getscheduler, "d";
    SCHED_GET_PRIORITY_MAX = __NR_sched_get_priority_max, "d";
    SCHED_GET_PRIORITY_MIN = __NR_sched_get_priority_min, "d";
    SCHED_RR_GET_INTERVAL = __NR_sched_rr_get_interval, "dp";
    MLOCK = __NR_mlock, "pu";
    MUNLOCK = __NR_munlock, "pu";
    MLOCKALL = __NR_mlockall, "x";
    MUNLOCKALL = __NR_munlockall, "";
    VHANGUP = __NR_vhangup, "";
    MODIFY_LDT = __NR_modify_ldt, "dpu";
    PIVOT_ROOT = __NR_pivot_root, "ss";
    SYSCTL = __NR__sysctl, "p";
    PRCTL = __NR_prctl, "dxxxx";
    ARCH_PRCTL = __NR_arch_prctl, "xp";
    ADJTIMEX = __NR_adjtimex, "p";
    SETRLIMIT = __NR_setrlimit, "dp";
    CHROOT = __NR_chroot, "s";
    SYNC = __NR_sync, "";
    ACCT = __NR_acct, "s";
    SETTIMEOFDAY = __NR_settimeofday, "pp";
    MOUNT = __NR_mount, "sssxp";
    UMOUNT2 = __NR_umount2, "sx";
    SWAPON = __NR_swapon, "sx";
    SWAPOFF = __NR_swapoff, "s";
    REBOOT = __NR_reboot, "xxxp";
    SETHOSTNAME = __NR_sethostname, "iu";
    SETDOMAINNAME = __NR_setdomainname, "iu";
    IOPL = __NR_iopl, "d";
    IOPERM = __NR_ioperm, "uud";
    CREATE_MODULE = __NR_create_module, "su";
    INIT_MODULE = __NR_init_module, "pus";
    DELETE_MODULE = __NR_delete_module, "sx";
    GET_KERNEL_SYMS = __NR_get_kernel_syms, "p";
    QUERY_MODULE = __NR_query_module, "sdpup";
    QUOTACTL = __NR_quotactl, "xsdp";
    NFSSERVCTL = __NR_nfsservctl, "dpp";
    GETPMSG = __NR_getpmsg, "";
    PUTPMSG = __NR_putpmsg, "";
    AFS_SYSCALL = __NR_afs_syscall, "";
    TUXCALL = __NR_tuxcall, "";
    SECURITY = __NR_security, "";
    GETTID = __NR_gettid, "";
    READAHEAD = __NR_readahead, "flu";
    SETXATTR = __NR_setxattr, "ssiux";
    LSETXATTR = __NR_lsetxattr, "ssiux";
    FSETXATTR = __NR_fsetxattr, "fsiux";
    GETXATTR = __NR_getxattr, "ssru";
    LGETXATTR = __NR_lgetxattr, "ssru";
    FGETXATTR = __NR_fgetxattr, "fsru";
    LISTXATTR = __NR_listxattr, "sru";
    LLISTXATTR = __NR_llistxattr, "sru";
    FLISTXATTR = __NR_flistxattr, "fru";
    REMOVEXATTR = __NR_removexattr, "ss";
    LREMOVEXATTR = __NR_lremovexattr, "ss";
    FREMOVEXATTR = __NR_fremovexattr, "fs";
    TKILL = __NR_tkill, "dg";
    TIME = __NR_time, "p";
    FUTEX = __NR_futex, "pxuppu";
    SCHED_SETAFFINITY = __NR_sched_setaffinity, "dup";
    SCHED_GETAFFINITY = __NR_sched_getaffinity, "dup";
    SET_THREAD_AREA = __NR_set_thread_area, "p";
    IO_SETUP = __NR_io_setup, "up";
    IO_DESTROY = __NR_io_destroy, "p";
    IO_GETEVENTS = __NR_io_getevents, "pllpp";
    IO_SUBMIT = __NR_io_submit, "plp";
    IO_CANCEL = __NR_io_cancel, "ppp";
    GET_THREAD_AREA = __NR_get_thread_area, "p";
    LOOKUP_DCOOKIE = __NR_lookup_dcookie, "xru";
    EPOLL_CREATE = __NR_epoll_create, "d";
    EPOLL_CTL_OLD = __NR_epoll_ctl_old, "";
    EPOLL_WAIT_OLD = __NR_epoll_wait_old, "";
    REMAP_FILE_PAGES = __NR_remap_file_pages, "puxux";
    GETDENTS64 = __NR_getdents64, "fpu";
    SET_TID_ADDRESS = __NR_set_tid_address, "p";
    RESTART_SYSCALL = __NR_restart_syscall, "";
    SEMTIMEDOP = __NR_semtimedop, "dpup";
    FADVISE64 = __NR_fadvise64, "flud";
    TIMER_CREATE = __NR_timer_create, "dpp";
    TIMER_SETTIME = __NR_timer_settime, "dxpp";
    TIMER_GETTIME = __NR_timer_gettime, "dp";
    TIMER_GETOVERRUN = __NR_timer_getoverrun, "d";
    TIMER_DELETE = __NR_timer_delete, "d";
    CLOCK_SETTIME = __NR_clock_settime, "dp";
    CLOCK_GETTIME = __NR_clock_gettime, "dp";
    CLOCK_GETRES = __NR_clock_getres, "dp";
    CLOCK_NANOSLEEP = __NR_clock_nanosleep, "dxpp";
    EXIT_GROUP = __NR_exit_group, "d=!";
    EPOLL_WAIT = __NR_epoll_wait, "fpdd";
    EPOLL_CTL = __NR_epoll_ctl, "fdfp";
    TGKILL = __NR_tgkill, "ddg";
    UTIMES = __NR_utimes, "sp";
    VSERVER = __NR_vserver, "";
    MBIND = __NR_mbind, "puxpux";
    SET_MEMPOLICY = __NR_set_mempolicy, "xpu";
    GET_MEMPOLICY = __NR_get_mempolicy, "ppupx";
    MQ_OPEN = __NR_mq_open, "sxop";
    MQ_UNLINK = __NR_mq_unlink, "s";
    MQ_TIMEDSEND = __NR_mq_timedsend, "fiuup";
    MQ_TIMEDRECEIVE = __NR_mq_timedreceive, "frupp";
    MQ_NOTIFY = __NR_mq_notify, "fp";
    MQ_GETSETATTR = __NR_mq_getsetattr, "fpp";
    KEXEC_LOAD = __NR_kexec_load, "pupx";
    WAITID = __NR_waitid, "ddpxp";
    ADD_KEY = __NR_add_key, "ssiud";
    REQUEST_KEY = __NR_request_key, "sssd";
    KEYCTL = __NR_keyctl, "dxxxx";
    IOPRIO_SET = __NR_ioprio_set, "ddx";
    IOPRIO_GET = __NR_ioprio_get, "dd";
    INOTIFY_INIT = __NR_inotify_init, "";
    INOTIFY_ADD_WATCH = __NR_inotify_add_watch, "fsx";
    INOTIFY_RM_WATCH = __NR_inotify_rm_watch, "fd";
    MIGRATE_PAGES = __NR_migrate_pages, "dupp";
    OPENAT = __NR_openat, "fsxo";
    MKDIRAT = __NR_mkdirat, "fso";
    MKNODAT = __NR_mknodat, "fsox";
    FCHOWNAT = __NR_fchownat, "fsddx";
    FUTIMESAT = __NR_futimesat, "fsp";
    NEWFSTATAT = __NR_newfstatat, "fspx";
    UNLINKAT = __NR_unlinkat, "fsx";
    RENAMEAT = __NR_renameat, "fsfs";
    LINKAT = __NR_linkat, "fsfsx";
    SYMLINKAT = __NR_symlinkat, "sfs";
    READLINKAT = __NR_readlinkat, "fsru";
    FCHMODAT = __NR_fchmodat, "fso";
    FACCESSAT = __NR_faccessat, "fso";
    PSELECT6 = __NR_pselect6, "dppppp";
    PPOLL = __NR_ppoll, "puppu";
    UNSHARE = __NR_unshare, "x";
    SET_ROBUST_LIST = __NR_set_robust_list, "pu";
    GET_ROBUST_LIST = __NR_get_robust_list, "dpp";
    SPLICE = __NR_splice, "fpfpux";
    TEE = __NR_tee, "ffux";
    SYNC_FILE_RANGE = __NR_sync_file_range, "fllx";
    VMSPLICE = __NR_vmsplice, "fpux";
    MOVE_PAGES = __NR_move_pages, "dupppx";
    UTIMENSAT = __NR_utimensat, "fspx";
    EPOLL_PWAIT = __NR_epoll_pwait, "fpddpu";
    SIGNALFD = __NR_signalfd, "fpu";
    TIMERFD_CREATE = __NR_timerfd_create, "dx";
    EVENTFD = __NR_eventfd, "u";
    FALLOCATE = __NR_fallocate, "fxll";
    TIMERFD_SETTIME = __NR_timerfd_settime, "fxpp";
    TIMERFD_GETTIME = __NR_timerfd_gettime, "fp";
    ACCEPT4 = __NR_accept4, "fppx";
    SIGNALFD4 = __NR_signalfd4, "fpux";
    EVENTFD2 = __NR_eventfd2, "ux";
    EPOLL_CREATE1 = __NR_epoll_create1, "x";
    DUP3 = __NR_dup3, "ffx";
    PIPE2 = __NR_pipe2, "px";
    INOTIFY_INIT1 = __NR_inotify_init1, "x";
    PREADV = __NR_preadv, "fpul";
    PWRITEV = __NR_pwritev, "fpul";
    RT_TGSIGQUEUEINFO = __NR_rt_tgsigqueueinfo, "ddgp";
    PERF_EVENT_OPEN = __NR_perf_event_open, "pddfx";
    RECVMMSG = __NR_recvmmsg, "fpuxp";
    FANOTIFY_INIT = __NR_fanotify_init, "xx";
    FANOTIFY_MARK = __NR_fanotify_mark, "fxxfs";
    PRLIMIT64 = __NR_prlimit64, "ddpp";
    NAME_TO_HANDLE_AT = __NR_name_to_handle_at, "fsppx";
    OPEN_BY_HANDLE_AT = __NR_open_by_handle_at, "fpx";
    CLOCK_ADJTIME = __NR_clock_adjtime, "dp";
    SYNCFS = __NR_syncfs, "f";
    SENDMMSG = __NR_sendmmsg, "fpux";
    SETNS = __NR_setns, "fx";
    GETCPU = __NR_getcpu, "ppp";
    PROCESS_VM_READV = __NR_process_vm_readv, "dpupux";
    PROCESS_VM_WRITEV = __NR_process_vm_writev, "dpupux";
    KCMP = __NR_kcmp, "dddxx";
    FINIT_MODULE = __NR_finit_module, "fsx";
    SCHED_SETATTR = __NR_sched_setattr, "dpx";
    SCHED_GETATTR = __NR_sched_getattr, "dpux";
    RENAMEAT2 = __NR_renameat2, "fsfsx";
    SECCOMP = __NR_seccomp, "dxp";
    GETRANDOM = __NR_getrandom, "rux";
    MEMFD_CREATE = __NR_memfd_create, "sx";
    KEXEC_FILE_LOAD = __NR_kexec_file_load, "ffusx";
    BPF = __NR_bpf, "dpu";
    EXECVEAT = __NR_execveat, "fsppx=?";
    USERFAULTFD = __NR_userfaultfd, "x";
    MEMBARRIER = __NR_membarrier, "dxd";
    MLOCK2 = __NR_mlock2, "pux";
    COPY_FILE_RANGE = __NR_copy_file_range, "fpfpux";
    PREADV2 = __NR_preadv2, "fpullx";
    PWRITEV2 = __NR_pwritev2, "fpullx";
    PKEY_MPROTECT = __NR_pkey_mprotect, "puxd";
    PKEY_ALLOC = __NR_pkey_alloc, "xx";
    PKEY_FREE = __NR_pkey_free, "d";
    STATX = __NR_statx, "fsxxp";
    IO_PGETEVENTS = __NR_io_pgetevents, "pllppp";
    RSEQ = __NR_rseq, "puxx";
    URETPROBE = __NR_uretprobe, "";
    PIDFD_SEND_SIGNAL = __NR_pidfd_send_signal, "fgpx";
    IO_URING_SETUP = __NR_io_uring_setup, "up";
    IO_URING_ENTER = __NR_io_uring_enter, "fuuxpu";
    IO_URING_REGISTER = __NR_io_uring_register, "fdpu";
    OPEN_TREE = __NR_open_tree, "fsx";
    MOVE_MOUNT = __NR_move_mount, "fsfsx";
    FSOPEN = __NR_fsopen, "sx";
    FSCONFIG = __NR_fsconfig, "fdspd";
    FSMOUNT = __NR_fsmount, "fxx";
    FSPICK = __NR_fspick, "fsx";
    PIDFD_OPEN = __NR_pidfd_open, "dx";
    CLONE3 = __NR_clone3, "pu";
    CLOSE_RANGE = __NR_close_range, "uux";
    OPENAT2 = __NR_openat2, "fspu";
    PIDFD_GETFD = __NR_pidfd_getfd, "ffx";
    FACCESSAT2 = __NR_faccessat2, "fsox";
    PROCESS_MADVISE = __NR_process_madvise, "fpudx";
    EPOLL_PWAIT2 = __NR_epoll_pwait2, "fpdppu";
    MOUNT_SETATTR = __NR_mount_setattr, "fsxpu";
    QUOTACTL_FD = __NR_quotactl_fd, "fxdp";
    LANDLOCK_CREATE_RULESET = __NR_landlock_create_ruleset, "pux";
    LANDLOCK_ADD_RULE = __NR_landlock_add_rule, "fdpx";
    LANDLOCK_RESTRICT_SELF = __NR_landlock_restrict_self, "fx";
    MEMFD_SECRET = __NR_memfd_secret, "x";
    PROCESS_MRELEASE = __NR_process_mrelease, "fx";
    FUTEX_WAITV = __NR_futex_waitv, "puxpd";
    SET_MEMPOLICY_HOME_NODE = __NR_set_mempolicy_home_node, "puux";
    CACHESTAT = __NR_cachestat, "fppx";
    FCHMODAT2 = __NR_fchmodat2, "fsox";
    MAP_SHADOW_STACK = __NR_map_shadow_stack, "pux=p";
    FUTEX_WAKE = __NR_futex_wake, "pxdx";
    FUTEX_WAIT = __NR_futex_wait, "puxxpd";
    FUTEX_REQUEUE = __NR_futex_requeue, "pxdd";
    STATMOUNT = __NR_statmount, "ppux";
    LISTMOUNT = __NR_listmount, "ppux";
    LSM_GET_SELF_ATTR = __NR_lsm_get_self_attr, "uppx";
    LSM_SET_SELF_ATTR = __NR_lsm_set_self_attr, "upux";
    LSM_LIST_MODULES = __NR_lsm_list_modules, "ppx";
    MSEAL = __NR_mseal, "pux";
    SETXATTRAT = __NR_setxattrat, "fsxspu";
    GETXATTRAT = __NR_getxattrat, "fsxspu";
    LISTXATTRAT = __NR_listxattrat, "fsxru";
    REMOVEXATTRAT = __NR_removexattrat, "fsxs";
    OPEN_TREE_ATTR = __NR_open_tree_attr, "fsxpu";
    FILE_GETATTR = __NR_file_getattr, "fspux";
    FILE_SETATTR = __NR_file_setattr, "fspux";
}

#[cfg(test)]
mod tests {
    use std::string::String;
    use std::vec::Vec;

    use super::*;

    /// The header that the C library of the machine was built with: a second source of numbers and names.
    const HEADER: &str = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";

    fn kinds(nr: u32) -> Vec<ArgKind> {
        (0..6).map_while(|index| signature(nr).arg(index)).collect()
    }

    #[test]
    fn the_numbers_ascend_so_that_a_search_by_halves_finds_each() {
        assert!(NUMBERS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn agrees_with_the_header_of_the_machine() {
        let Ok(header) = std::fs::read_to_string(HEADER) else {
            std::println!("skipped: no {HEADER}");
            return;
        };
        let mut compared = 0;
        for line in header.lines().filter_map(|line| line.strip_prefix("#define __NR_")) {
            let mut words = line.split_whitespace();
            let (theirs, nr) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
            if nr < 470 {
                assert_eq!(name(nr), Some(theirs), "call {nr}");
                compared += 1;
            }
        }
        assert!(compared > 300, "only {compared} names in {HEADER}");
    }

    #[test]
    fn signatures_read_as_they_were_written() {
        use ArgKind::{Address, BufferIn, BufferOut, Fd, Flags, Path, Size};
        assert_eq!(kinds(READ), [Fd, BufferOut, Size]);
        assert_eq!(kinds(SENDTO), [Fd, BufferIn, Size, Flags, Address, Size]);
        assert_eq!(kinds(EXECVE), [Path, Address, Address]);
        assert_eq!(kinds(GETPID), []);
        assert_eq!(signature(MMAP).returns(), Returns::Address);
        assert_eq!(signature(EXECVEAT).returns(), Returns::Failure);
        assert_eq!(signature(EXIT_GROUP).returns(), Returns::Never);
        assert_eq!(signature(GETPID).returns(), Returns::Number);
    }

    #[test]
    fn a_buffer_is_followed_by_its_size() {
        for &nr in &NUMBERS {
            let kinds = kinds(u32::from(nr));
            for (kind, next) in kinds.iter().zip(kinds.iter().skip(1).map(Some).chain([None])) {
                if matches!(kind, ArgKind::BufferIn | ArgKind::BufferOut) {
                    assert_eq!(next, Some(&ArgKind::Size), "call {nr}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_number_has_no_name_and_six_arguments() {
        for nr in [336, 423, 511, 512, 0x4000_0000, u32::MAX] {
            assert_eq!(name(nr), None);
            assert_eq!(kinds(nr), [ArgKind::Flags; 6]);
        }
    }

    #[test]
    fn the_numbers_of_the_two_tables_are_told_apart() {
        for nr in [0, 1, 252, 470, I386_LAST] {
            assert_eq!((i386(of_i386(nr)), i386(nr)), (Some(nr), None));
            assert_eq!((name(of_i386(nr)), signature(of_i386(nr)).returns()), (None, Returns::Never));
        }
        assert_eq!([0x4000_0000, 0x0387_0000, u32::MAX].map(i386), [None; 3]);
        assert_eq!(of_i386(u32::MAX), of_i386(I386_LAST));
    }

    #[test]
    fn kinds_survive_their_packing() {
        for letter in "dluxofsirpg".bytes() {
            let kind = ArgKind::of_letter(letter);
            let word = String::from(char::from(letter));
            assert_eq!(Signature::parse(&word).arg(0), Some(kind));
            assert_eq!(Signature::parse(&word).arg(1), None);
        }
        assert_eq!(signature(READ).arg(usize::MAX), None);
    }
}
