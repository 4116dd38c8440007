//! The ways out of a hook: to the program, or back into a hook that a signal has interrupted. Zone: call.
//!
//! The block is given back before the last jump. Until then everything is in it, where a signal that comes meanwhile finds
//! it: the [`unsaved!`] marks say how.

use crate::abi::signal::{self, SIG_SETMASK, SigContext};
use crate::abi::sysno;
use crate::runtime::gate::block::{Block, CONTROL_FLAGS, Registers, register};
use crate::runtime::gate::claim::Claim;
use crate::runtime::gate::unsaved::unsaved;
use crate::runtime::gate::{restorer, upcalls};
use core::arch::naked_asm;
use core::mem::offset_of;

/// Loads xmm0 to xmm15 from what stands at `{xmm}` behind a register, by an instruction that is fit for its alignment.
macro_rules! load_vectors {
    ($load:literal, $base:literal) => {
        concat!(
            load_vectors!(@ $load, $base, "0", "0"),
            load_vectors!(@ $load, $base, "1", "16"),
            load_vectors!(@ $load, $base, "2", "32"),
            load_vectors!(@ $load, $base, "3", "48"),
            load_vectors!(@ $load, $base, "4", "64"),
            load_vectors!(@ $load, $base, "5", "80"),
            load_vectors!(@ $load, $base, "6", "96"),
            load_vectors!(@ $load, $base, "7", "112"),
            load_vectors!(@ $load, $base, "8", "128"),
            load_vectors!(@ $load, $base, "9", "144"),
            load_vectors!(@ $load, $base, "10", "160"),
            load_vectors!(@ $load, $base, "11", "176"),
            load_vectors!(@ $load, $base, "12", "192"),
            load_vectors!(@ $load, $base, "13", "208"),
            load_vectors!(@ $load, $base, "14", "224"),
            load_vectors!(@ $load, $base, "15", "240"),
        )
    };
    (@ $load:literal, $base:literal, $number:literal, $offset:literal) => {
        concat!($load, " xmm", $number, ", [", $base, " + {xmm} + ", $offset, "]\n")
    };
}

/// Goes on in the loader's code that a signal has interrupted, as if it had not.
///
/// | on entry | rdi: the registers that the kernel saved |
/// | on exit  | all general registers, the flags and xmm0 to xmm15 as they were |
/// | stack    | what the interrupted code's stack pointer leaves free below its red zone (psABI 3.2.2) |
///
/// # Safety
///
/// The interrupted code ran on a block.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn resume() -> ! {
    naked_asm!(
        "mov rcx, [rdi + {fpstate}]",
        load_vectors!("movups", "rcx"),
        "mov rsp, [rdi + {rsp}]",
        "lea rsp, [rsp - 128]",
        "push [rdi + {rip}]",
        "push [rdi + {eflags}]",
        "mov rax, [rdi + {rax}]",
        "mov rbx, [rdi + {rbx}]",
        "mov rcx, [rdi + {rcx}]",
        "mov rdx, [rdi + {rdx}]",
        "mov rsi, [rdi + {rsi}]",
        "mov rbp, [rdi + {rbp}]",
        "mov r8, [rdi + {r8}]",
        "mov r9, [rdi + {r9}]",
        "mov r10, [rdi + {r10}]",
        "mov r11, [rdi + {r11}]",
        "mov r12, [rdi + {r12}]",
        "mov r13, [rdi + {r13}]",
        "mov r14, [rdi + {r14}]",
        "mov r15, [rdi + {r15}]",
        "mov rdi, [rdi + {rdi}]",
        "popfq",
        "ret 128", // takes the red zone back
        fpstate = const offset_of!(SigContext, fpstate),
        xmm = const signal::XMM_OFFSET,
        rip = const offset_of!(SigContext, rip),
        eflags = const offset_of!(SigContext, eflags),
        rax = const offset_of!(SigContext, rax),
        rbx = const offset_of!(SigContext, rbx),
        rcx = const offset_of!(SigContext, rcx),
        rdx = const offset_of!(SigContext, rdx),
        rsi = const offset_of!(SigContext, rsi),
        rdi = const offset_of!(SigContext, rdi),
        rbp = const offset_of!(SigContext, rbp),
        rsp = const offset_of!(SigContext, rsp),
        r8 = const offset_of!(SigContext, r8),
        r9 = const offset_of!(SigContext, r9),
        r10 = const offset_of!(SigContext, r10),
        r11 = const offset_of!(SigContext, r11),
        r12 = const offset_of!(SigContext, r12),
        r13 = const offset_of!(SigContext, r13),
        r14 = const offset_of!(SigContext, r14),
        r15 = const offset_of!(SigContext, r15),
    )
}

/// Puts the program's state back and goes where the hook decided, once no signal waits for the hook to end.
///
/// | on entry | rbx: the block, on whose stack rsp lies |
/// | on exit  | at `target` · rcx: target, r11: rflags, as after a real call · all else from the block |
///
/// The block is given back before the last jump. Until then everything is in it, where a signal that comes meanwhile
/// finds it.
///
/// # Safety
///
/// Reached only from the landings of this file.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn leave() -> ! {
    naked_asm!(
        unsaved!(leave_start),
        "cmp qword ptr [rbx + {waiting}], 0",
        "jne {leave_late}",
        "cmp dword ptr [rbx + {masked}], 0",
        "jne {leave_late}",
        "mov r11, rbx",
        unsaved!(leave),
        load_vectors!("movaps", "r11"),
        "mov rax, [r11 + {rflags}]",
        "test eax, {control}",
        "jnz 3f",
        "mov ecx, eax",
        "shr ecx, 11",
        "and ecx, 1", // OF
        "mov ah, al", // SF ZF AF PF CF
        "mov al, cl",
        "add al, 0x7f", // overflows exactly if al was 1
        "sahf",
        "2:", // from here on loads and stores only: the flags are the program's
        "mov rbx, [r11 + {rbx}]",
        "mov rdx, [r11 + {rdx}]",
        "mov rsi, [r11 + {rsi}]",
        "mov rdi, [r11 + {rdi}]",
        "mov rbp, [r11 + {rbp}]",
        "mov r8, [r11 + {r8}]",
        "mov r9, [r11 + {r9}]",
        "mov r10, [r11 + {r10}]",
        "mov r12, [r11 + {r12}]",
        "mov r13, [r11 + {r13}]",
        "mov r14, [r11 + {r14}]",
        "mov r15, [r11 + {r15}]",
        "mov rax, [r11 + {rax}]",
        "mov rsp, [r11 + {rsp}]",
        "mov rcx, [r11 + {next_owner}]",
        "mov [r11 + {owner}], rcx",
        "mov rcx, [r11 + {target}]",
        "mov qword ptr [r11 + {claim_holder}], 0",
        "mov dword ptr [r11 + {busy}], 0", // stores are seen in order (SDM 3A 9.2.2): free after all reads above
        unsaved!(left),
        "mov r11, [r11 + {rflags}]",
        "jmp rcx",
        unsaved!(leave),
        "3:", // DF, AC, TF or NT: only popfq sets them, for 15 ns
        "push rax",
        "popfq",
        "jmp 2b",
        unsaved!(nothing),
        waiting = const offset_of!(Block, waiting),
        masked = const offset_of!(Block, masked),
        leave_late = sym leave_late,
        owner = const offset_of!(Block, owner),
        next_owner = const offset_of!(Block, next_owner),
        busy = const offset_of!(Block, busy),
        claim_holder = const offset_of!(Block, claim) + offset_of!(Claim, holder),
        target = const offset_of!(Block, target),
        xmm = const offset_of!(Block, xmm),
        control = const CONTROL_FLAGS,
        rbx = const register(offset_of!(Registers, rbx)),
        rdx = const register(offset_of!(Registers, rdx)),
        rsi = const register(offset_of!(Registers, rsi)),
        rdi = const register(offset_of!(Registers, rdi)),
        rbp = const register(offset_of!(Registers, rbp)),
        rsp = const register(offset_of!(Registers, rsp)),
        r8 = const register(offset_of!(Registers, r8)),
        r9 = const register(offset_of!(Registers, r9)),
        r10 = const register(offset_of!(Registers, r10)),
        r12 = const register(offset_of!(Registers, r12)),
        r13 = const register(offset_of!(Registers, r13)),
        r14 = const register(offset_of!(Registers, r14)),
        r15 = const register(offset_of!(Registers, r15)),
        rax = const register(offset_of!(Registers, rax)),
        rflags = const register(offset_of!(Registers, rflags)),
    )
}

/// Leaves a hook that signals wait for, or that has blocked them.
///
/// | on entry | rbx: the block, on whose stack rsp lies |
/// | on exit  | at [`leave`], nothing waiting and nothing blocked |
///
/// # Safety
///
/// Reached only from [`leave`].
#[unsafe(naked)]
unsafe extern "C" fn leave_late() -> ! {
    naked_asm!(
        "cmp qword ptr [rbx + {waiting}], 0",
        "je 5f",
        "mov rdi, rbx",
        "call {deliver_waiting}",
        "jmp {leave}",
        "5:", // back on the program's alternate stack before a signal may come
        "mov rsp, [rbx + {rsp}]",
        "mov rbp, rbx",
        "lea rsi, [rbp + {mask}]",
        "mov edi, {set_mask}",
        "xor edx, edx",
        "mov r10d, 8",
        "mov eax, {change_mask}",
        "lea rbx, [rip + 6f]",
        "lea r11, [rip + __gate_stubs + {bare_call}]",
        "jmp r11",
        unsaved!(unmasking),
        "6:",
        "mov dword ptr [rbp + {masked}], 0",
        "mov rbx, rbp",
        "jmp {leave}",
        unsaved!(nothing),
        mask = const offset_of!(Block, mask),
        masked = const offset_of!(Block, masked),
        set_mask = const SIG_SETMASK,
        change_mask = const sysno::RT_SIGPROCMASK,
        bare_call = const restorer::BARE_CALL,
        waiting = const offset_of!(Block, waiting),
        deliver_waiting = sym upcalls::loader_deliver_waiting,
        leave = sym leave,
        rsp = const register(offset_of!(Registers, rsp)),
    )
}
