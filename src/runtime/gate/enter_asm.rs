//! Where hooked calls land: save the program's state on a block, run the hook in Rust, put everything back. Zone: call.
//!
//! A call arrives with rcx and r11 as the only scratch registers (`syscall` destroys them) and the flags live. The
//! upper half of rax is free as well: the kernel reads eax only, and rax holds the result afterwards. So the first
//! steps pack number, flags and stub index into rax; then the flags are free, and a block can be found by arithmetic.
//!
//! A signal may interrupt anywhere here. Until a block has everything, [`unsaved!`] marks say where things are.

use crate::abi::signal::SIG_SETMASK;
use crate::abi::sysno;
use crate::runtime::gate::altstacks::{self, ALTSTACKS, AltStacks};
use crate::runtime::gate::block::{self, Block, CONTROL_FLAGS, Registers};
use crate::runtime::gate::claim::{Claim, VFORKS};
use crate::runtime::gate::dedications::{DEDICATIONS, ENTRIES};
use crate::runtime::gate::generation::GENERATION;
use crate::runtime::gate::leave_asm::{leave, resume};
use crate::runtime::gate::policy::{self, POLICY};
use crate::runtime::gate::pool::{self, POOL, Pool};
use crate::runtime::gate::record::{Area, RECORDS};
use crate::runtime::gate::unsaved::unsaved;
use crate::runtime::gate::{layout, restorer, upcalls};
use core::arch::naked_asm;
use core::mem::offset_of;

/// CF, PF, AF, ZF, SF and OF: what arithmetic changes.
const ARITHMETIC_FLAGS: u64 = 0x8d5;

/// The bits of rflags that are always set.
const FIXED_FLAGS: u64 = 2;

/// r11 = a free block for this thread, marked busy. Clobbers rcx and flags. The windows: while no block is taken, when
/// one is, and where the comparison of ecx with the generation is what tells.
macro_rules! find_block {
    ($free:tt, $taken:tt, $perhaps:tt) => {
        concat!(
            unsaved!($free),
            "cmp byte ptr [rip + {pool} + {fsgsbase}], 0\n",
            "je 22f\n",
            "rdfsbase rcx\n",
            "imul r11, rcx, {hash}\n", // pool::index_of
            "shr r11, {hash_shift}\n",
            "and r11d, {index_mask}\n", // the index times the block's length
            "add r11, [rip + {pool} + {owned}]\n",
            "inc rcx\n", // owners are stored plus one, so that 0 is nobody
            "cmp rcx, [r11 + {owner}]\n",
            "jne 22f\n",
            // Only the owner itself takes its block: a plain word suffices, set while a hook of the same thread
            // has been interrupted by a handler that makes calls.
            "mov ecx, [rip + {generation}]\n",
            "cmp [r11 + {busy}], ecx\n",
            "jae 22f\n",
            "mov [r11 + {busy}], ecx\n",
            unsaved!($taken),
            "jmp 24f\n",
            unsaved!($free),
            "22:\n", // a shared block: the first that is free
            "mov r11, [rip + {pool} + {shared}]\n",
            "23:\n",
            "mov ecx, [rip + {generation}]\n",
            "cmp [r11 + {busy}], ecx\n", // never written while busy: a forked child marks its own for the next one
            "jae 27f\n",
            "xchg ecx, [r11 + {busy}]\n",
            unsaved!($perhaps),
            "cmp ecx, [rip + {generation}]\n",
            "jb 28f\n",
            unsaved!($free),
            "27:\n",
            "add r11, {block_len}\n",
            "cmp r11, [rip + {pool} + {shared_end}]\n",
            "jb 23b\n",
            "pause\n",
            "jmp 22b\n",
            unsaved!($taken),
            "28:\n", // claim it at once: a process that is killed in between takes it along
            "mov ecx, [rip + {vforks}]\n",
            "mov [r11 + {claim_vforks}], ecx\n",
            "cmp byte ptr [rip + {pool} + {fsgsbase}], 0\n",
            "je 24f\n",
            "rdfsbase rcx\n",
            "mov [r11 + {claim_holder}], rcx\n",
            "24:\n",
        )
    };
}

/// Sends a call whose number has a filter to its dedicated slot, if it has one; wants rax packed.
macro_rules! go_through_filter {
    () => {
        concat!(
            "mov r11, rax\n",
            "shr r11, 16\n",
            "bswap r11d\n", // the number
            "movzx ecx, r11w\n",
            "lea r11, [rip + {policy}]\n",
            "cmp byte ptr [r11 + rcx], {filtered_calls}\n",
            "jne 26f\n",
            "xor ecx, eax\n", // dedicated::index_of
            "and ecx, {last_filter}\n",
            "shl ecx, 4\n",
            "lea r11, [rip + {filters}]\n",
            "add r11, rcx\n",
            "mov rcx, rax\n",
            "shl rcx, 16\n", // dedicated::key_of
            "cmp rcx, [r11]\n",
            "jne 26f\n",
            "mov rcx, [r11 + 8]\n",
            "rol rax, 16\n",
            unsaved!(filter_rotated),
            "add al, 0x7f\n", // overflows exactly if al was 1
            unsaved!(filter_added),
            "sahf\n",
            unsaved!(filter_swapped),
            "bswap rax\n",
            unsaved!(filter_whole),
            "mov eax, eax\n",
            "jmp rcx\n",
            unsaved!(hooked_packed),
            "26:\n",
        )
    };
}

/// Saves all general registers but rax, rcx and r11 on the block at r11, and switches to its stack.
macro_rules! save_registers {
    ($taken:tt, $masking:tt) => {
        concat!(
            "mov [r11 + {rbx}], rbx\n",
            "mov [r11 + {rdx}], rdx\n",
            "mov [r11 + {rsi}], rsi\n",
            "mov [r11 + {rdi}], rdi\n",
            "mov [r11 + {rbp}], rbp\n",
            "mov [r11 + {rsp}], rsp\n",
            "mov [r11 + {r8}], r8\n",
            "mov [r11 + {r9}], r9\n",
            "mov [r11 + {r10}], r10\n",
            "mov [r11 + {r12}], r12\n",
            "mov [r11 + {r13}], r13\n",
            "mov [r11 + {r14}], r14\n",
            "mov [r11 + {r15}], r15\n",
            "cmp byte ptr [rip + {altstacks} + {altstacks_exist}], 0\n",
            "je 32f\n",
            "mov rcx, rsp\n",
            "shr rcx, {piece_shift}\n",
            "and ecx, {altstacks_mask}\n",
            "shl ecx, 4\n",
            "add rcx, [rip + {altstacks} + {altstacks_at}]\n",
            "cmp rsp, [rcx]\n",
            "jb 32f\n",
            "cmp rsp, [rcx + 8]\n",
            "ja 32f\n",
            "mov [r11 + {spilled}], rax\n", // a handler on the alternate stack: runtime::altstacks
            "xchg rbp, r11\n",
            unsaved!($masking),
            "lea rdx, [rbp + {mask}]\n",
            "lea rsi, [rip + {altstacks} + {all_signals}]\n",
            "mov edi, {set_mask}\n",
            "mov r10d, 8\n",
            "mov eax, {change_mask}\n",
            "lea rbx, [rip + 31f]\n",
            "lea r11, [rip + __gate_stubs + {bare_call}]\n",
            "jmp r11\n",
            "31:\n",
            "mov r11, rbp\n",
            "mov rax, [r11 + {spilled}]\n",
            "mov dword ptr [r11 + {masked}], 1\n",
            unsaved!($taken),
            "32:\n",
            "mov rsp, r11\n", // the stack grows down from the header; 64-aligned
            unsaved!(nothing),
            "mov rbx, rsp\n", // Rust keeps rbx
        )
    };
}

/// Completes the saved flags from dh (as `lahf` left them) and dl (OF), makes them fit for Rust, saves xmm0 to 15.
macro_rules! save_flags_and_vectors {
    () => {
        concat!(
            "pushfq\n",
            "pop rcx\n",
            "and ecx, ~{arithmetic}\n",
            "movzx esi, dh\n",
            "and esi, {arithmetic}\n",
            "or ecx, esi\n",
            "movzx esi, dl\n",
            "shl esi, 11\n", // OF
            "or ecx, esi\n",
            "mov [rbx + {rflags}], rcx\n",
            "test ecx, {control}\n",
            "jz 25f\n",
            "push {fixed}\n", // DF and AC clear for Rust; TF clear, since hooks are not the program's to step through
            "popfq\n",
            "25:\n",
            "movaps [rbx + {xmm}], xmm0\n",
            "movaps [rbx + {xmm} + 16], xmm1\n",
            "movaps [rbx + {xmm} + 32], xmm2\n",
            "movaps [rbx + {xmm} + 48], xmm3\n",
            "movaps [rbx + {xmm} + 64], xmm4\n",
            "movaps [rbx + {xmm} + 80], xmm5\n",
            "movaps [rbx + {xmm} + 96], xmm6\n",
            "movaps [rbx + {xmm} + 112], xmm7\n",
            "movaps [rbx + {xmm} + 128], xmm8\n",
            "movaps [rbx + {xmm} + 144], xmm9\n",
            "movaps [rbx + {xmm} + 160], xmm10\n",
            "movaps [rbx + {xmm} + 176], xmm11\n",
            "movaps [rbx + {xmm} + 192], xmm12\n",
            "movaps [rbx + {xmm} + 208], xmm13\n",
            "movaps [rbx + {xmm} + 224], xmm14\n",
            "movaps [rbx + {xmm} + 240], xmm15\n",
        )
    };
}

/// A naked function over the fragments above, with the block's layout as operands.
macro_rules! landing {
    ($(#[$doc:meta])* $name:ident, $text:expr, $($operand:tt)*) => {
        $(#[$doc])*
        #[unsafe(naked)]
        pub(crate) unsafe extern "C" fn $name() -> ! {
            naked_asm!(
                $text,
                pool = sym POOL,
                fsgsbase = const offset_of!(Pool, fsgsbase),
                generation = sym GENERATION,
                vforks = sym VFORKS,
                claim_holder = const offset_of!(Block, claim) + offset_of!(Claim, holder),
                claim_vforks = const offset_of!(Block, claim) + offset_of!(Claim, vforks),
                owned = const offset_of!(Pool, owned),
                shared = const offset_of!(Pool, shared),
                shared_end = const offset_of!(Pool, shared_end),
                hash = const pool::HASH,
                hash_shift = const pool::HASH_SHIFT - block::SHIFT,
                index_mask = const (pool::OWNED - 1) << block::SHIFT,
                block_len = const block::LEN,
                owner = const offset_of!(Block, owner),
                busy = const offset_of!(Block, busy),
                xmm = const offset_of!(Block, xmm),
                rbx = const block::register(offset_of!(Registers, rbx)),
                rdx = const block::register(offset_of!(Registers, rdx)),
                rsi = const block::register(offset_of!(Registers, rsi)),
                rdi = const block::register(offset_of!(Registers, rdi)),
                rbp = const block::register(offset_of!(Registers, rbp)),
                rsp = const block::register(offset_of!(Registers, rsp)),
                r8 = const block::register(offset_of!(Registers, r8)),
                r9 = const block::register(offset_of!(Registers, r9)),
                r10 = const block::register(offset_of!(Registers, r10)),
                r12 = const block::register(offset_of!(Registers, r12)),
                r13 = const block::register(offset_of!(Registers, r13)),
                r14 = const block::register(offset_of!(Registers, r14)),
                r15 = const block::register(offset_of!(Registers, r15)),
                rax = const block::register(offset_of!(Registers, rax)),
                rflags = const block::register(offset_of!(Registers, rflags)),
                altstacks = sym ALTSTACKS,
                altstacks_exist = const offset_of!(AltStacks, exist),
                altstacks_at = const offset_of!(AltStacks, entries_at),
                altstacks_mask = const altstacks::ENTRIES - 1,
                piece_shift = const altstacks::PIECE_SHIFT,
                spilled = const offset_of!(Block, spilled),
                mask = const offset_of!(Block, mask),
                masked = const offset_of!(Block, masked),
                all_signals = const offset_of!(AltStacks, all_signals),
                set_mask = const SIG_SETMASK,
                change_mask = const sysno::RT_SIGPROCMASK,
                bare_call = const restorer::BARE_CALL,
                arithmetic = const ARITHMETIC_FLAGS,
                control = const CONTROL_FLAGS,
                fixed = const FIXED_FLAGS,
                leave = sym leave,
                $($operand)*
            )
        }
    };
}

landing!(
    /// Lands a call that a stub found hooked.
    ///
    /// | on entry | rcx: the stub · eax: number · all else the program's, flags included |
    /// | on exit  | through [`leave`] |
    /// | stack    | the program's is neither read nor written |
    ///
    /// # Safety
    ///
    /// Reached only by the jump at the end of a stub.
    hooked,
    concat!(
        unsaved!(hooked_whole),
        "bswap rax\n",   // the number moves up; the low half is scratch. Touches no flag, as all up to `seto`
        unsaved!(hooked_swapped),
        "lahf\n",        // ah = SF ZF AF PF CF
        "seto al\n",
        "ror rax, 16\n", // flags in bits 48..63, number in 16..47
        unsaved!(hooked_packed_address),
        "lea r11, [rip + __gate_stubs]\n",
        "sub rcx, r11\n",
        unsaved!(hooked_packed_offset),
        "shr ecx, 6\n",
        unsaved!(hooked_packed_index),
        "mov ax, cx\n",  // stub index in bits 0..15
        unsaved!(hooked_packed),
        go_through_filter!(),
        find_block!(hooked_packed, hooked_packed_taken, hooked_packed_perhaps),
        save_registers!(hooked_packed_taken, hooked_masking),
        "movzx ecx, ax\n",
        "mov [rbx + {stub}], ecx\n",
        "mov rdx, rax\n",
        "shr rdx, 48\n", // dh, dl
        "shr rax, 16\n",
        "bswap eax\n",
        "mov [rbx + {rax}], rax\n",
        save_flags_and_vectors!(),
        "mov rdi, rbx\n",
        "call {entered}\n", // rsp = header, 64-aligned
        "jmp {leave}\n",
    ),
    stub = const offset_of!(Block, stub),
    entered = sym upcalls::loader_entered,
    policy = sym POLICY,
    filtered_calls = const policy::FILTERED,
    filters = sym DEDICATIONS,
    last_filter = const ENTRIES - 1,
);

landing!(
    /// Lands a call that has returned in a dedicated slot, and whose filter wants the hook to see it.
    ///
    /// | on entry | rcx: the record · rax: result, an int · all else as the kernel left it, flags included |
    /// | on exit  | through [`leave`] |
    /// | stack    | the program's is neither read nor written |
    ///
    /// # Safety
    ///
    /// Reached only from the filters.
    filtered,
    concat!(
        unsaved!(filtered_whole),
        "bswap rax\n", // packed as in `hooked`, with the slot's index for the stub's
        unsaved!(filtered_swapped),
        "lahf\n",
        "seto al\n",
        "ror rax, 16\n",
        unsaved!(filtered_packed_address),
        "lea r11, [rip + {records}]\n",
        "sub rcx, r11\n",
        unsaved!(filtered_packed_offset),
        "shr ecx, {slot_shift}\n",
        unsaved!(filtered_packed_index),
        "mov ax, cx\n",
        find_block!(filtered_packed, filtered_packed_taken, filtered_packed_perhaps),
        save_registers!(filtered_packed_taken, filtered_masking),
        "movzx ecx, ax\n",
        "shl ecx, {slot_shift}\n",
        "lea r11, [rip + {records}]\n",
        "add rcx, r11\n",
        "mov [rbx + {area}], rcx\n",
        "mov rdx, rax\n",
        "shr rdx, 48\n", // dh, dl
        "shr rax, 16\n",
        "bswap eax\n",
        "cdqe\n",
        "mov [rbx + {rax}], rax\n",
        save_flags_and_vectors!(),
        "mov rdi, rbx\n",
        "call {passed_filter}\n",
        "jmp {leave}\n",
    ),
    records = sym RECORDS,
    slot_shift = const layout::SLOT_LEN.ilog2(),
    area = const offset_of!(Block, area),
    passed_filter = sym upcalls::loader_filtered,
);

landing!(
    /// Lands a call that has returned in a record slot, for its exit hook.
    ///
    /// | on entry | rcx: the record's area · rax: result · r11: scratch · all else as the kernel left it |
    /// | on exit  | through [`leave`] |
    /// | stack    | the program's is neither read nor written |
    ///
    /// # Safety
    ///
    /// Reached only by the jump at the end of a slot.
    returned,
    concat!(
        unsaved!(returned_result),
        "mov [rcx + {spill_rax}], rax\n",
        "lahf\n",
        unsaved!(returned_spilled),
        "seto al\n",
        "mov [rcx + {spill_flags}], ax\n",
        "mov rax, rcx\n",
        find_block!(returned_area, returned_area_taken, returned_area_perhaps),
        save_registers!(returned_area_taken, returned_masking),
        "mov [rbx + {area}], rax\n",
        "movzx edx, word ptr [rax + {spill_flags}]\n",
        "mov rax, [rax + {spill_rax}]\n",
        "mov [rbx + {rax}], rax\n",
        save_flags_and_vectors!(),
        "mov rdi, rbx\n",
        "call {run_exit_hooks}\n",
        "jmp {leave}\n",
    ),
    spill_rax = const offset_of!(Area, rax),
    spill_flags = const offset_of!(Area, flags),
    area = const offset_of!(Block, area),
    run_exit_hooks = sym upcalls::loader_returned,
);

/// Lands a returned `fork`, `vfork`, `clone` or `clone3`: parent and child come through the same slot, perhaps at the
/// same time and in the same memory, so the child goes on with the record's second area.
///
/// | on entry | as [`returned`]; rax is 0 in the child |
/// | on exit  | at [`returned`] |
///
/// # Safety
///
/// Reached only by the jump at the end of a slot.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn returned_split() -> ! {
    naked_asm!(
        unsaved!(split_start),
        "mov r11, rcx",
        unsaved!(split),
        "mov rcx, rax",
        "jrcxz 2f", // a test that leaves the flags alone
        "mov rcx, r11",
        "jmp {returned}",
        "2:",
        "lea rcx, [r11 + {area_len}]",
        "jmp {returned}",
        unsaved!(nothing),
        area_len = const size_of::<Area>(),
        returned = sym returned,
    )
}

landing!(
    /// Lands a signal that came for one of the program's handlers.
    ///
    /// | on entry | rax: the handler's entry · all else as the kernel sets it for a handler |
    /// | on exit  | through [`leave`], or back in the loader's code where the signal came, or at the restorer |
    /// | stack    | below the frame that the kernel built, nothing is read or written |
    ///
    /// # Safety
    ///
    /// Reached only from the entries of handlers.
    signalled,
    concat!(
        find_block!(signalled, signalled_taken, signalled_perhaps),
        save_registers!(signalled_taken, signalled_masking),
        "lea rcx, [rip + __gate_handlers]\n",
        "sub rax, rcx\n",
        "shr eax, {entry_shift}\n",
        "mov [rbx + {stub}], eax\n",
        "xor eax, eax\n", // what the kernel sets it to
        "mov [rbx + {rax}], rax\n",
        "xor edx, edx\n", // nor do flags mean anything to a handler
        save_flags_and_vectors!(),
        "mov rdi, rbx\n",
        "call {delivered}\n",
        "test rax, rax\n",
        "jz {leave}\n",
        "mov rdi, rax\n",
        "jmp {resume}\n",
    ),
    entry_shift = const layout::HANDLER_LEN.ilog2(),
    stub = const offset_of!(Block, stub),
    delivered = sym upcalls::loader_delivered,
    resume = sym resume,
);
