//! The gate's address range: the pools of stubs and slots behind the loader's own `syscall`. Zone: call.
//!
//! Sizes and labels only; the code in the pools is written at run time (`plan::stub`, `gate::slots`). The unwind
//! entries are why this is assembly: with them a debugger sees through a thread that is blocked in the gate, as if
//! the system call stood at its site. Both are signal frames (DWARF augmentation `S`), since the address they return
//! to is the exact next instruction, not one behind a call; CFA is rsp, all registers are the program's.

use crate::addr::{AddrRange, GuestAddr};
use crate::plan::stub;
use crate::runtime::gate::layout::{self, STUBS};
use crate::runtime::gate::{record, slot_code};
use crate::sys::gate_asm::start as own_syscall;
use core::arch::global_asm;

global_asm!(
    ".pushsection .gate.stubs,\"ax\",@nobits",
    ".hidden __gate_stubs",
    ".globl __gate_stubs",
    "__gate_stubs:",
    // The first stub is the restorer's: no unwind entry, and the name that gdb knows a signal frame by.
    ".local __restore_rt",
    ".type __restore_rt, @function",
    "__restore_rt:",
    ".skip {stub_len}",
    ".size __restore_rt, . - __restore_rt",
    ".cfi_startproc simple",
    ".cfi_signal_frame",
    ".cfi_def_cfa 7, 0",
    // The return address (column 16) is saved at (rip & -64) + BACK:
    // DW_CFA_expression 16, 8 bytes: DW_OP_breg16 0; DW_OP_const1s -64; DW_OP_and; DW_OP_plus_uconst BACK.
    ".cfi_escape 0x10, 16, 7, 0x80, 0, 0x09, 0xc0, 0x1a, 0x23, {back}",
    ".skip {stubs_len} - {stub_len}",
    ".cfi_endproc",
    ".popsection",
    ".pushsection .gate.slots,\"ax\",@nobits",
    ".hidden __gate_slots",
    ".globl __gate_slots",
    "__gate_slots:",
    ".cfi_startproc simple",
    ".cfi_signal_frame",
    ".cfi_def_cfa 7, 0",
    // It is saved at *((rip & -256) + RECORD) + record's back: DW_OP_breg16 0; DW_OP_const2s -256; DW_OP_and;
    // DW_OP_plus_uconst RECORD; DW_OP_deref; DW_OP_plus_uconst back (two ULEB bytes).
    ".cfi_escape 0x10, 16, 12, 0x80, 0, 0x0b, 0x00, 0xff, 0x1a, 0x23, {record}, 0x06, 0x23, {slot_back} | 0x80, 0",
    ".skip {slots_len}",
    ".cfi_endproc",
    ".popsection",
    ".pushsection .gate.handlers,\"ax\",@nobits",
    ".hidden __gate_handlers",
    ".globl __gate_handlers",
    "__gate_handlers:",
    ".skip {handlers_len}",
    ".popsection",
    back = const stub::BACK,
    stub_len = const stub::LEN,
    stubs_len = const STUBS as usize * stub::LEN,
    record = const slot_code::RECORD_POINTER,
    slot_back = const record::BACK_OFFSET,
    slots_len = const layout::SLOTS as usize * layout::SLOT_LEN,
    handlers_len = const layout::HANDLERS * layout::HANDLER_LEN,
);

const _: () = assert!(record::BACK_OFFSET < 128, "one ULEB digit and its continuation");

unsafe extern "C" {
    static __gate_stubs: u8;
    static __gate_slots: u8;
    static __gate_handlers: u8;
}

/// The pools: all of the gate but the loader's own instruction.
#[must_use]
pub(crate) fn pools() -> AddrRange {
    let end = handlers() + (layout::HANDLERS * layout::HANDLER_LEN) as u64;
    AddrRange::new(GuestAddr(stubs()), GuestAddr(end))
}

/// All of the gate: every system call that is made in it ends before its end.
#[must_use]
pub(crate) fn whole() -> AddrRange {
    AddrRange::new(own_syscall(), pools().end)
}

/// The address of the first stub.
#[must_use]
pub(crate) fn stubs() -> u64 {
    (&raw const __gate_stubs).expose_provenance() as u64
}

/// The address of the first slot.
#[must_use]
pub(crate) fn slots() -> u64 {
    (&raw const __gate_slots).expose_provenance() as u64
}

/// The address of the first handler's entry.
#[must_use]
pub(crate) fn handlers() -> u64 {
    (&raw const __gate_handlers).expose_provenance() as u64
}
