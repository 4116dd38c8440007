//! From the kernel's jump to the first line of Rust: own stack, self-relocation. Zone: bare.
//!
//! Before the relocations are applied no table of addresses may be read, and compiled Rust may contain any; so this
//! part is assembly, which shows all that it reads.

use core::arch::naked_asm;

/// Bytes of the stack that the loader runs on until the program starts: planning patches needs most of it.
const STACK_LEN: usize = 256 * 1024;

#[repr(C, align(4096))]
struct Stack([u8; STACK_LEN]);

/// Zero pages until touched. The kernel's own stack is left alone, since the program's initial stack is rebuilt there.
static mut STACK: Stack = Stack([0; STACK_LEN]);

/// Relocates the image and calls `main` on the loader's own stack.
///
/// | on entry | rsp: the kernel's initial stack (psABI 3.4.1) · rsi: `main` |
/// | on exit  | never; `main` gets the kernel's rsp in rdi |
/// | stack    | nothing is written to the kernel's |
///
/// The image holds `R_X86_64_RELATIVE` entries only (a static PIE without undefined symbols; a test reads them back).
///
/// # Safety
///
/// Reached once, from the process's first instruction.
#[unsafe(naked)]
pub unsafe extern "C" fn start() -> ! {
    naked_asm!(
        "xor ebp, ebp",             // the outermost frame, for debuggers (psABI 3.4.1)
        "mov rdi, rsp",             // the argument of main
        "lea rsp, [rip + {stack} + {stack_len}]",
        "lea r8, [rip + __ehdr_start]", // the load bias: the image is linked at 0
        "lea rdx, [rip + _DYNAMIC]",
        "xor r9d, r9d",             // DT_RELA: offset of the table
        "xor r10d, r10d",           // DT_RELASZ: bytes
        "2:",                       // for each Elf64_Dyn { tag, value }
        "mov rax, [rdx]",
        "mov rcx, [rdx + 8]",
        "add rdx, 16",
        "cmp rax, 7",               // DT_RELA
        "cmove r9, rcx",
        "cmp rax, 8",               // DT_RELASZ
        "cmove r10, rcx",
        "test rax, rax",            // DT_NULL
        "jnz 2b",
        "add r9, r8",
        "add r10, r9",              // the table's end
        "3:",                       // for each Elf64_Rela { offset, info, addend }
        "cmp r9, r10",
        "jae 4f",
        "mov rax, [r9 + 16]",
        "add rax, r8",
        "mov rcx, [r9]",
        "mov [rcx + r8], rax",      // *(offset + bias) = addend + bias
        "add r9, 24",
        "jmp 3b",
        "4:",
        "call rsi",                 // rsp is 16-aligned before the call
        "ud2",
        stack = sym STACK,
        stack_len = const STACK_LEN,
    )
}
