//! Signals as the kernel lays them out for x86-64: dispositions, information, and the frame a handler gets.
//!
//! The layouts are those of `arch/x86/include/uapi/asm/{signal.h,sigcontext.h,ucontext.h}`,
//! `include/uapi/asm-generic/siginfo.h` and `arch/x86/include/asm/sigframe.h`; the assertions below hold them to
//! the kernel's sizes and offsets. They are the kernel's structures, not the C library's, whose sigset is larger.
//! Addresses stand in them as plain numbers, as in the arguments of a call.
// tidy: table

use crate::abi::packed::{Packed, join, total_len};
use core::mem::{offset_of, size_of};
use linux_raw_sys::general;

/// The length of a signal set, as the calls want it said, in bytes (`sigsetsize`).
pub const SET_LEN: u64 = size_of::<SignalSet>() as u64;
/// Where xmm0 to xmm15 stand in the vector state (SDM vol. 1, 10.5.1).
pub const XMM_OFFSET: usize = 160;

/// A signal number, 1 to 64. Not an enum: it comes from programs, which may pass any number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Signal(pub u32);

impl Signal {
    /// The highest number (`_NSIG`, arch/x86/include/uapi/asm/signal.h).
    pub const MAX: Self = Self(64);

    /// The name, such as `SIGSEGV`, or `None` for real-time signals and numbers that are none.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let index = self.0.checked_sub(1)?;
        NAMES.get(usize::try_from(index).ok()?)
    }
}

/// Declares the constants and, in the same order, the names; the numbers go up from 1 without a gap.
macro_rules! signals {
    ($($name:ident)*) => {
        impl Signal {
            $(
                #[doc = concat!("`", stringify!($name), "`.")]
                pub const $name: Self = Self(general::$name);
            )*
        }
        const COUNT: usize = [$(stringify!($name)),*].len();
        const NAME_PARTS: [&str; COUNT] = [$(stringify!($name)),*];
        const NUMBERS: [Signal; COUNT] = [$(Signal::$name),*];
    };
}

static JOINED_NAMES: [u8; total_len(&NAME_PARTS)] = join(&NAME_PARTS);

static NAMES: Packed<COUNT> = Packed::new(&NAME_PARTS, &JOINED_NAMES);

signals! {
    SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM
    SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF
    SIGWINCH SIGIO SIGPWR SIGSYS
}

const _: () = {
    let mut index = 0;
    while index < NUMBERS.len() {
        assert!(NUMBERS[index].0 as usize == index + 1);
        index += 1;
    }
};

/// A set of signals as the kernel keeps it: signal `n` is bit `n - 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const NONE: Self = Self(0);
    /// Every signal.
    pub const ALL: Self = Self(u64::MAX);
    /// Those that the processor raises for what an instruction did: blocked, they kill
    /// (`force_sig_info_to_task`, kernel/signal.c).
    pub const SYNCHRONOUS: Self = Self::of(&[
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGFPE,
        Signal::SIGSYS,
        Signal::SIGTRAP,
    ]);

    /// The set of these signals.
    #[must_use]
    pub const fn of(mut signals: &[Signal]) -> Self {
        let mut set = Self::NONE;
        while let [first, rest @ ..] = signals {
            set = set.with(*first);
            signals = rest;
        }
        set
    }

    /// This set and `signal`; a number that is no signal changes nothing.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | bit(signal))
    }

    /// This set without the signals of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether `signal` is in the set.
    #[must_use]
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & bit(signal) != 0
    }
}

const fn bit(signal: Signal) -> u64 {
    match signal.0 {
        1..=64 => 1 << (signal.0 - 1),
        _ => 0,
    }
}

/// `SIG_DFL`: the kernel's default action.
pub const SIG_DFL: u64 = 0;

/// `SIG_IGN`: nothing happens.
pub const SIG_IGN: u64 = 1;

/// `sigaction::flags`: the handler takes three arguments.
pub const SA_SIGINFO: u64 = general::SA_SIGINFO as u64;

/// `sigaction::flags`: `restorer` is set; x86-64 delivers nothing without it.
pub const SA_RESTORER: u64 = general::SA_RESTORER as u64;

/// `sigaction::flags`: the handler runs on the alternate stack.
pub const SA_ONSTACK: u64 = general::SA_ONSTACK as u64;

/// `sigaction::flags`: interrupted calls are made again.
pub const SA_RESTART: u64 = general::SA_RESTART as u64;

/// `sigaction::flags`: the signal is not blocked while its handler runs.
pub const SA_NODEFER: u64 = general::SA_NODEFER as u64;

/// `sigaction::flags`: back to the default action before the handler runs.
pub const SA_RESETHAND: u64 = general::SA_RESETHAND as u64;

/// `how` of `rt_sigprocmask`: adds to the mask.
pub const SIG_BLOCK: u32 = general::SIG_BLOCK;

/// `how` of `rt_sigprocmask`: takes from the mask.
pub const SIG_UNBLOCK: u32 = general::SIG_UNBLOCK;

/// `how` of `rt_sigprocmask`: replaces the mask.
pub const SIG_SETMASK: u32 = general::SIG_SETMASK;

/// `SigInfo::code`: sent by `tkill` or `tgkill`.
pub const SI_TKILL: i32 = general::SI_TKILL;

/// `SigInfo::code` of `SIGSYS`: a seccomp filter returned `SECCOMP_RET_TRAP`.
pub const SYS_SECCOMP: i32 = general::SYS_SECCOMP as i32;

/// `SigInfo::code` of `SIGSYS`: Syscall User Dispatch caught the call.
pub const SYS_USER_DISPATCH: i32 = general::SYS_USER_DISPATCH as i32;

/// `SigStack::flags`: there is no alternate stack.
pub const SS_DISABLE: u32 = general::SS_DISABLE;

/// What the program wants done about a signal (`struct sigaction`, include/linux/signal_types.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SigAction {
    /// The handler, or [`SIG_DFL`] or [`SIG_IGN`].
    pub handler: u64,
    /// `SA_*`.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// What is blocked while the handler runs.
    pub mask: SignalSet,
}

impl SigAction {
    /// What every signal's action is at first.
    pub const DEFAULT: Self = Self { handler: SIG_DFL, flags: 0, restorer: 0, mask: SignalSet::NONE };

    /// From the bytes that a program passes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let word = |index: usize| {
            let mut word = [0; 8];
            word.iter_mut().zip(bytes.iter().skip(index * 8)).for_each(|(to, from)| *to = *from);
            u64::from_ne_bytes(word)
        };
        Self { handler: word(0), flags: word(1), restorer: word(2), mask: SignalSet(word(3)) }
    }

    /// The bytes that a program is given.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let words = [self.handler, self.flags, self.restorer, self.mask.0].map(u64::to_ne_bytes);
        bytes.iter_mut().zip(words.iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }
}

/// An alternate stack (`stack_t`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct SigStack {
    /// Its lowest address.
    pub base: u64,
    /// `SS_*`.
    pub flags: u32,
    /// Padding.
    pub pad: u32,
    /// Its length in bytes.
    pub len: u64,
}

/// Why a signal came (`siginfo_t`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct SigInfo {
    /// The signal number.
    pub signo: i32,
    /// An error number; hardly ever used.
    pub errno: i32,
    /// `SI_*`, or a code of the signal's own.
    pub code: i32,
    /// Padding.
    pub pad: i32,
    /// A union; what it holds depends on `signo` and `code`.
    pub fields: [u64; 14],
}

impl SigInfo {
    /// The `SIGSYS` that a dispatched call raises: its instruction ends at `at`, its number is `nr` in the table `arch`.
    #[must_use]
    pub fn dispatched(at: u64, nr: u32, arch: u32) -> Self {
        let mut fields = [0; 14];
        [fields[0], fields[1]] = [at, u64::from(nr) | u64::from(arch) << 32];
        Self { signo: Signal::SIGSYS.0.cast_signed(), errno: 0, code: SYS_USER_DISPATCH, pad: 0, fields }
    }

    /// `si_addr` of a fault: the address accessed, or the instruction, by signal; `si_call_addr` of `SIGSYS`: the
    /// address after the instruction.
    #[must_use]
    pub const fn addr(&self) -> u64 {
        self.fields[0]
    }

    /// What a signal that was sent consists of: number, code, sender and value.
    #[must_use]
    pub fn sent_words(&self) -> [u64; 4] {
        let pair =
            |low: i32, high: i32| u64::from(low.cast_unsigned()) | u64::from(high.cast_unsigned()) << 32;
        [pair(self.signo, self.errno), pair(self.code, 0), self.fields[0], self.fields[1]]
    }

    /// The signal that consists of `words`, as [`Self::sent_words`] gives them.
    #[must_use]
    pub fn from_sent_words(words: [u64; 4]) -> Self {
        let [number, code, sender, value] = words;
        let mut fields = [0; 14];
        [fields[0], fields[1]] = [sender, value];
        let half = |word: u64| (word & 0xffff_ffff) as u32;
        Self {
            signo: half(number).cast_signed(),
            errno: half(number >> 32).cast_signed(),
            code: half(code).cast_signed(),
            pad: 0,
            fields,
        }
    }

    /// `si_syscall` of `SIGSYS`: the number of the call.
    #[must_use]
    pub const fn syscall(&self) -> u32 {
        (self.fields[1] & 0xffff_ffff) as u32
    }

    /// `si_arch` of `SIGSYS`: an `AUDIT_ARCH_*`.
    #[must_use]
    pub const fn arch(&self) -> u32 {
        (self.fields[1] >> 32) as u32
    }
}

/// The registers of an interrupted thread (`struct sigcontext_64`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "the fields are the registers of the same names")]
pub struct SigContext {
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub rdx: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rsp: u64,
    pub rip: u64,
    pub eflags: u64,
    pub cs: u16,
    pub gs: u16,
    pub fs: u16,
    pub ss: u16,
    /// The error code that the processor pushed for the exception.
    pub err: u64,
    /// The exception's vector.
    pub trapno: u64,
    /// The low signals of the mask before the handler.
    pub oldmask: u64,
    /// The address of a page fault.
    pub cr2: u64,
    /// Where the floating point and vector state is, or 0.
    pub fpstate: u64,
    /// Of no meaning.
    pub reserved: [u64; 8],
}

/// What a handler is told about the interrupted thread (`struct ucontext`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct UContext {
    /// `UC_*`.
    pub flags: u64,
    /// Always 0.
    pub link: u64,
    /// The alternate stack.
    pub stack: SigStack,
    /// The registers.
    pub mcontext: SigContext,
    /// The mask that `rt_sigreturn` puts back.
    pub sigmask: SignalSet,
}

/// What the kernel pushes for a handler (`struct rt_sigframe`); the handler starts with rsp at its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct SigFrame {
    /// The handler's return address.
    pub restorer: u64,
    /// The interrupted thread: the handler's third argument.
    pub ucontext: UContext,
    /// Why: the handler's second argument.
    pub info: SigInfo,
}

const _: () = {
    assert!(size_of::<SigAction>() == size_of::<general::kernel_sigaction>());
    assert!(size_of::<SigAction>() == 32);
    assert!(offset_of!(SigAction, mask) == 24);
    assert!(size_of::<SigStack>() == size_of::<general::stack_t>());
    assert!(offset_of!(SigStack, len) == 16);
    assert!(size_of::<SigInfo>() == general::SI_MAX_SIZE as usize);
    assert!(offset_of!(SigInfo, code) == 8);
    assert!(offset_of!(SigInfo, fields) == 16);
    assert!(size_of::<SigContext>() == 256);
    assert!(offset_of!(SigContext, rip) == 128);
    assert!(offset_of!(SigContext, cs) == 144);
    assert!(offset_of!(SigContext, err) == 152);
    assert!(offset_of!(SigContext, fpstate) == 184);
    assert!(offset_of!(UContext, mcontext) == 40);
    assert!(offset_of!(UContext, sigmask) == 296);
    assert!(size_of::<UContext>() == 304);
    assert!(offset_of!(SigFrame, ucontext) == 8);
    assert!(offset_of!(SigFrame, info) == 312);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_numbers() {
        assert_eq!(Signal(11).name(), Some("SIGSEGV"));
        assert_eq!(Signal(31).name(), Some("SIGSYS"));
        for none in [0, 32, 64, u32::MAX] {
            assert_eq!(Signal(none).name(), None);
        }
    }

    #[test]
    fn a_set_holds_signals_1_to_64() {
        let set = SignalSet::of(&[Signal(1), Signal::MAX, Signal(0), Signal(65), Signal(u32::MAX)]);
        assert_eq!(set, SignalSet(1 << 63 | 1));
        assert!(set.contains(Signal::MAX));
        assert!(!set.contains(Signal(0)));
        assert!(!SignalSet::ALL.contains(Signal(65)));
        assert_eq!(set.without(SignalSet::of(&[Signal(1)])), SignalSet(1 << 63));
    }

    #[test]
    fn sigsys_names_the_call_and_its_architecture() {
        let mut info = SigInfo { signo: 31, errno: 0, code: SYS_USER_DISPATCH, pad: 0, fields: [0; 14] };
        info.fields[0] = 0x1234;
        info.fields[1] = 0xc000_003e_0000_0027;
        assert_eq!(info.addr(), 0x1234);
        assert_eq!(info.syscall(), 39);
        assert_eq!(info.arch(), 0xc000_003e);
    }
}
