//! The loader's last instruction before the program's first. Zone: load.

use core::arch::naked_asm;

/// Starts the program with the state that the kernel gives a new process: all general registers and xmm0–15 zero, only
/// the interrupt flag set (arch/x86/kernel/process_64.c, `start_thread`; ELF_PLAT_INIT in asm/elf.h). The upper vector
/// state, mxcsr, the x87 state and both segment bases have never been touched.
///
/// | on entry | rdi: the program's rsp · rsi: its first instruction |
/// | on exit  | never |
/// | stack    | the program's is not touched |
///
/// # Safety
///
/// The program is mapped and its initial stack lies at `stack`.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn start_program(stack: u64, entry: u64) -> ! {
    naked_asm!(
        "mov [rip + {entry}], rsi",
        "push 0x202", // IF and the bit that is always set
        "popfq",
        "mov rsp, rdi",
        "pxor xmm0, xmm0",
        "pxor xmm1, xmm1",
        "pxor xmm2, xmm2",
        "pxor xmm3, xmm3",
        "pxor xmm4, xmm4",
        "pxor xmm5, xmm5",
        "pxor xmm6, xmm6",
        "pxor xmm7, xmm7",
        "pxor xmm8, xmm8",
        "pxor xmm9, xmm9",
        "pxor xmm10, xmm10",
        "pxor xmm11, xmm11",
        "pxor xmm12, xmm12",
        "pxor xmm13, xmm13",
        "pxor xmm14, xmm14",
        "pxor xmm15, xmm15",
        "mov eax, 0", // mov, since xor would set flags
        "mov ebx, 0",
        "mov ecx, 0",
        "mov edx, 0", // no function to register with atexit (psABI 3.4.1)
        "mov esi, 0",
        "mov edi, 0",
        "mov ebp, 0",
        "mov r8d, 0",
        "mov r9d, 0",
        "mov r10d, 0",
        "mov r11d, 0",
        "mov r12d, 0",
        "mov r13d, 0",
        "mov r14d, 0",
        "mov r15d, 0",
        "jmp [rip + {entry}]",
        entry = sym ENTRY,
    )
}

/// Where the last jump finds its target, when every register already belongs to the program.
static ENTRY: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(0);
