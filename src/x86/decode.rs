//! One instruction as the planner needs it: how long it is, where control goes, whether it may move.
//!
//! What the two vendors read differently is refused, because the bytes then have no single meaning: a near
//! branch with a 66 prefix and no REX.W takes `rel32` on Intel and `rel16` on AMD (SDM vol. 2A 2.2.1.2, AMD64
//! APM vol. 3 1.2.4). So is what user code cannot execute, except `hlt`, which C libraries use as a trap.

use crate::addr::GuestAddr;
use crate::x86::common;
use crate::x86::gpr::{Gpr, Value};
use crate::x86::insn::{self, Insn, Kind, MAX_LEN};
use crate::x86::moves::{self, Left};
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use heapless::Vec;
use iced_x86::{
    Code, Decoder as Iced, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory,
    InstructionInfoOptions, Mnemonic, OpAccess, OpKind, Register,
};

/// Why bytes are not an instruction that user code executes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DecodeError {
    /// The bytes end before the instruction does.
    Truncated,
    /// No instruction is encoded so.
    Invalid,
    /// The vendors disagree on the length.
    Ambiguous,
    /// Only the kernel may execute it.
    Privileged,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the bytes end inside an instruction",
            Self::Invalid => "no instruction",
            Self::Ambiguous => "an instruction whose length depends on the vendor",
            Self::Privileged => "a privileged instruction",
        })
    }
}

/// Decodes instructions anywhere in one slice.
pub(crate) struct Decoder<'a> {
    bytes: &'a [u8],
    at: GuestAddr,
    /// Where the last decoded instruction starts.
    last_at: usize,
    full: Option<Full<'a>>,
}

/// The full decoder, made when first needed.
struct Full<'a> {
    iced: Iced<'a>,
    info: InstructionInfoFactory,
    /// What it read last, and where that starts.
    last: Instruction,
    last_at: Option<usize>,
}

/// Whether the full decoder has made its tables.
static HAS_TABLES: AtomicBool = AtomicBool::new(false);

/// Whether the tables of the full decoder exist: 400 KiB of heap, made when an instruction first needs them, kept for
/// good.
#[must_use]
pub(crate) fn has_tables() -> bool {
    HAS_TABLES.load(Ordering::Relaxed)
}

impl<'a> Decoder<'a> {
    /// A decoder for `bytes`, the first of which lies at `at`.
    #[must_use]
    pub(crate) const fn new(bytes: &'a [u8], at: GuestAddr) -> Self {
        Self { bytes, at, last_at: 0, full: None }
    }

    /// The instruction that starts `offset` bytes into the slice.
    ///
    /// # Errors
    /// `Truncated` past the end of the slice, and as [`DecodeError`] says.
    pub(crate) fn decode(&mut self, offset: usize) -> Result<Insn, DecodeError> {
        self.last_at = offset;
        let at = self.at.wrapping_add(offset as u64);
        match self.last_window().and_then(|window| common::read(window, at)) {
            Some(insn) => Ok(insn),
            None => self.decode_fully(offset),
        }
    }

    /// As [`Self::decode`], by the full decoder.
    pub(super) fn decode_fully(&mut self, offset: usize) -> Result<Insn, DecodeError> {
        let bytes = self.bytes.get(offset..).ok_or(DecodeError::Truncated)?;
        self.full().decode(offset, bytes)
    }

    fn full(&mut self) -> &mut Full<'a> {
        let (bytes, at) = (self.bytes, self.at);
        self.full.get_or_insert_with(|| {
            HAS_TABLES.store(true, Ordering::Relaxed);
            Full {
                iced: Iced::with_ip(64, bytes, at.0, DecoderOptions::NONE),
                info: InstructionInfoFactory::new(),
                last: Instruction::default(),
                last_at: None,
            }
        })
    }

    /// The bytes from the last decoded instruction on, if they are enough for any.
    fn last_window(&self) -> Option<&'a [u8; insn::WINDOW]> {
        self.bytes.get(self.last_at..)?.first_chunk()
    }

    /// The full decoder after reading the last instruction, which alone knows all operands.
    fn caught_up(&mut self) -> &mut Full<'a> {
        let last_at = self.last_at;
        if self.full.as_ref().is_none_or(|full| full.last_at != Some(last_at)) {
            // What is no instruction has been refused by `decode`.
            let _ = self.decode_fully(last_at);
        }
        self.full()
    }

    /// Whether the last decoded instruction may write to memory, the stack included.
    pub(crate) fn writes_memory(&mut self) -> bool {
        match self.last_window().and_then(moves::effect) {
            Some(effect) => effect.writes_memory,
            None => self.caught_up().writes_memory(),
        }
    }

    /// What the last decoded instruction leaves in `register`, if it writes it.
    pub(crate) fn value(&mut self, register: Gpr) -> Option<Value> {
        let Some(effect) = self.last_window().and_then(moves::effect) else {
            return self.caught_up().value(register);
        };
        effect.written.filter(|(number, _)| Gpr::of(*number) == Some(register)).and_then(|(_, left)| {
            Some(match left {
                Left::Constant(constant) => Value::Constant(constant),
                Left::Copy(number) => Value::Copy(Gpr::of(number)?),
                Left::Set => Value::Set,
                Left::Altered => Value::Altered,
            })
        })
    }
}

impl Full<'_> {
    /// The instruction at `offset` of all bytes; `bytes` are the ones from there on.
    fn decode(&mut self, offset: usize, bytes: &[u8]) -> Result<Insn, DecodeError> {
        let ip = self.iced.ip().wrapping_sub(self.iced.position() as u64).wrapping_add(offset as u64);
        self.iced.try_set_position(offset).map_err(|_| DecodeError::Truncated)?;
        self.iced.set_ip(ip);
        self.iced.decode_out(&mut self.last);
        self.last_at = Some(offset);
        let insn = &self.last;
        if insn.is_invalid() {
            return Err(match self.iced.last_error() {
                iced_x86::DecoderError::NoMoreBytes => DecodeError::Truncated,
                _ => DecodeError::Invalid,
            });
        }
        let kind = kind_of(insn);
        if !runs_in_user_mode(insn) {
            return Err(DecodeError::Privileged);
        }
        if is_transfer(kind) && has_bare_operand_size_prefix(bytes) {
            return Err(DecodeError::Ambiguous);
        }
        Ok(Insn {
            len: u8::try_from(insn.len()).map_err(|_| DecodeError::Invalid)?,
            kind,
            rip_disp_at: self.rip_disp_at(),
            straight: is_straight(insn, kind),
        })
    }

    /// Where the last decoded instruction holds a RIP-relative displacement.
    fn rip_disp_at(&self) -> Option<u8> {
        if !self.last.is_ip_rel_memory_operand() {
            return None;
        }
        let offsets = self.iced.get_constant_offsets(&self.last);
        u8::try_from(offsets.displacement_offset()).ok().filter(|_| offsets.displacement_size() == 4)
    }

    fn writes_memory(&mut self) -> bool {
        let info = self.info.info_options(&self.last, InstructionInfoOptions::NO_REGISTER_USAGE);
        info.used_memory().iter().any(|used| is_write(used.access()))
    }

    fn value(&mut self, register: Gpr) -> Option<Value> {
        let info = self.info.info_options(&self.last, InstructionInfoOptions::NO_MEMORY_USAGE);
        let uses = info.used_registers().iter().filter(|used| used.register().full_register() == register.0);
        let (mut is_written, mut is_whole) = (false, true);
        for used in uses {
            is_written |= is_write(used.access());
            // A read makes the new value depend on the old one; a write of 32 bits clears the upper half.
            is_whole &= used.access() == OpAccess::Write && used.register().size() >= 4;
        }
        match (is_written, is_whole) {
            (false, _) => None,
            (true, false) => Some(Value::Altered),
            (true, true) => Some(moved_value(&self.last)),
        }
    }
}

/// The instruction `bytes` begin with, if it starts at `at`.
///
/// # Errors
/// As [`DecodeError`] says.
pub(crate) fn decode(bytes: &[u8], at: GuestAddr) -> Result<Insn, DecodeError> {
    Decoder::new(bytes, at).decode(0)
}

/// The bytes of the instruction `insn` at `from`, changed so that it means the same at `to`.
///
/// `None` if it is not straight-line, if `bytes` is not exactly its encoding, or if its RIP-relative operand
/// does not reach from `to`.
#[must_use]
pub(crate) fn relocate(bytes: &[u8], insn: Insn, from: GuestAddr, to: GuestAddr) -> Option<Vec<u8, MAX_LEN>> {
    if !insn.straight || bytes.len() != usize::from(insn.len) {
        return None;
    }
    let mut moved = Vec::from_slice(bytes).ok()?;
    if let Some(disp_at) = insn.rip_disp_at {
        let field = moved.get_mut(usize::from(disp_at)..)?.first_chunk_mut::<4>()?;
        let disp = i64::from(i32::from_le_bytes(*field));
        let shift = from.0.wrapping_sub(to.0).cast_signed();
        *field = i32::try_from(disp.checked_add(shift)?).ok()?.to_le_bytes();
    }
    Some(moved)
}

fn kind_of(insn: &Instruction) -> Kind {
    let near = || GuestAddr(insn.near_branch_target());
    match insn.flow_control() {
        FlowControl::Next => match insn.mnemonic() {
            Mnemonic::Nop => Kind::Nop,
            Mnemonic::Hlt => Kind::Trap,
            _ => Kind::Other,
        },
        FlowControl::UnconditionalBranch if is_near(insn) => Kind::Jump { target: near() },
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => Kind::IndirectJump,
        FlowControl::ConditionalBranch => Kind::CondJump { target: near() },
        FlowControl::Return => Kind::Return,
        FlowControl::Call if insn.mnemonic() == Mnemonic::Syscall => Kind::Syscall,
        FlowControl::Call if is_near(insn) => Kind::Call { target: Some(near()) },
        FlowControl::Call | FlowControl::IndirectCall => Kind::Call { target: None },
        FlowControl::Exception => Kind::Trap,
        FlowControl::Interrupt if matches!(insn.mnemonic(), Mnemonic::Int3 | Mnemonic::Int1) => Kind::Trap,
        FlowControl::Interrupt if insn.mnemonic() == Mnemonic::Int && insn.immediate8() == 0x80 => {
            Kind::Int80
        }
        FlowControl::XbeginXabortXend if is_near(insn) => Kind::CondJump { target: near() },
        FlowControl::Interrupt | FlowControl::XbeginXabortXend => Kind::Other,
    }
}

const fn is_transfer(kind: Kind) -> bool {
    !matches!(kind, Kind::Syscall | Kind::Int80 | Kind::Trap | Kind::Nop | Kind::Other)
}

/// Whether a 66 prefix stands there that no REX.W overrides.
fn has_bare_operand_size_prefix(bytes: &[u8]) -> bool {
    let is_prefix = |byte: &&u8| {
        matches!(**byte, 0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65)
    };
    let prefixes = bytes.iter().take_while(is_prefix).count();
    let has_rex_w = bytes.get(prefixes).is_some_and(|byte| byte & 0xf8 == 0x48);
    !has_rex_w && bytes.iter().take(prefixes).any(|byte| *byte == 0x66)
}

fn is_near(insn: &Instruction) -> bool {
    insn.op0_kind() == OpKind::NearBranch64
}

/// Ring-0 instructions and port I/O fault in every user program.
fn runs_in_user_mode(insn: &Instruction) -> bool {
    !insn.is_privileged() || insn.mnemonic() == Mnemonic::Hlt
}

/// An EIP-relative operand wraps at 4 GB of code, so such an instruction does not move; `endbr64` marks its place.
fn is_straight(insn: &Instruction, kind: Kind) -> bool {
    matches!(kind, Kind::Nop | Kind::Other)
        && insn.flow_control() == FlowControl::Next
        && insn.mnemonic() != Mnemonic::Endbr64
        && insn.memory_base() != Register::EIP
}

const fn is_write(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

/// What an instruction that sets all of one register sets it to.
fn moved_value(insn: &Instruction) -> Value {
    match insn.code() {
        Code::Mov_r32_imm32 | Code::Mov_rm32_imm32 | Code::Mov_rm64_imm32 | Code::Mov_r64_imm64 => {
            Value::Constant(insn.immediate(1))
        }
        Code::Mov_rm32_r32 | Code::Mov_rm64_r64 | Code::Mov_r32_rm32 | Code::Mov_r64_rm64
            if insn.op1_kind() == OpKind::Register =>
        {
            Value::Copy(Gpr(insn.op1_register().full_register()))
        }
        _ => Value::Set,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: GuestAddr = GuestAddr(0x7000_0000);

    fn kind(bytes: &[u8]) -> Result<Kind, DecodeError> {
        decode(bytes, HERE).map(|insn| insn.kind)
    }

    #[test]
    fn control_flow_of_each_kind_is_told_apart() {
        let target = HERE.wrapping_add(0x15);
        assert_eq!(kind(&[0x0f, 0x05]), Ok(Kind::Syscall));
        assert_eq!([kind(&[0xcd, 0x80]), kind(&[0xcd, 0x81])], [Ok(Kind::Int80), Ok(Kind::Other)]);
        assert_eq!(kind(&[0xe9, 0x10, 0, 0, 0]), Ok(Kind::Jump { target }));
        assert_eq!(kind(&[0xe8, 0x10, 0, 0, 0]), Ok(Kind::Call { target: Some(target) }));
        assert_eq!(kind(&[0x74, 0x13]), Ok(Kind::CondJump { target }));
        assert_eq!(kind(&[0xe3, 0x13]), Ok(Kind::CondJump { target }));
        assert_eq!(kind(&[0xff, 0xe0]), Ok(Kind::IndirectJump));
        assert_eq!(kind(&[0x3e, 0xff, 0xe0]), Ok(Kind::IndirectJump));
        assert_eq!(kind(&[0xff, 0xd0]), Ok(Kind::Call { target: None }));
        assert_eq!(kind(&[0xc3]), Ok(Kind::Return));
        assert_eq!(kind(&[0xf4]), Ok(Kind::Trap));
        assert_eq!(kind(&[0x0f, 0x0b]), Ok(Kind::Trap));
        assert_eq!(kind(&[0x66, 0x90]), Ok(Kind::Nop));
        assert_eq!(kind(&[0x89, 0xd0]), Ok(Kind::Other));
    }

    #[test]
    fn a_prefixed_syscall_is_one_instruction() {
        for prefix in [0x48, 0x66, 0xf2, 0xf3, 0x2e, 0x64] {
            let insn = decode(&[prefix, 0x0f, 0x05], HERE).unwrap();
            assert_eq!((insn.kind, insn.len), (Kind::Syscall, 3), "{prefix:#x}");
        }
        assert_eq!(kind(&[0xf0, 0x0f, 0x05]), Err(DecodeError::Invalid));
    }

    #[test]
    fn what_user_code_cannot_execute_is_no_instruction_of_it() {
        assert_eq!(kind(&[0xec]), Err(DecodeError::Privileged));
        assert_eq!(kind(&[0x0f, 0x07]), Err(DecodeError::Privileged));
        assert_eq!(kind(&[0x0f, 0x30]), Err(DecodeError::Privileged));
        assert_eq!(kind(&[0x06; 4]), Err(DecodeError::Invalid));
    }

    #[test]
    fn a_branch_that_the_vendors_read_differently_is_refused() {
        assert_eq!(kind(&[0x66, 0xe9, 0, 0, 0, 0]), Err(DecodeError::Ambiguous));
        // The padded `__tls_get_addr` call of the x86-64 TLS ABI: REX.W overrides the prefix.
        assert!(kind(&[0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0]).is_ok());
    }

    #[test]
    fn an_instruction_cut_off_by_the_end_is_truncated() {
        assert_eq!(kind(&[0xb8, 1, 0]), Err(DecodeError::Truncated));
        assert_eq!(kind(&[]), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_moved_rip_relative_operand_still_means_the_same_address() {
        let load = [0x8b, 0x05, 0x00, 0x01, 0, 0];
        let insn = decode(&load, HERE).unwrap();
        assert_eq!(insn.rip_disp_at, Some(2));
        let moved = relocate(&load, insn, HERE, HERE.wrapping_add(0x40)).unwrap();
        assert_eq!(moved, [0x8b, 0x05, 0xc0, 0x00, 0, 0]);
        assert_eq!(relocate(&load, insn, HERE, HERE.wrapping_add(1 << 32)), None);
        let eip_relative = [0x67, 0x8b, 0x05, 0x00, 0x01, 0, 0];
        assert!(!decode(&eip_relative, HERE).unwrap().straight);
    }

    #[test]
    fn a_branch_does_not_move() {
        let jump = [0xeb, 0x00];
        assert_eq!(relocate(&jump, decode(&jump, HERE).unwrap(), HERE, HERE), None);
    }

    fn decoded(bytes: &[u8]) -> Decoder<'_> {
        let mut decoder = Decoder::new(bytes, HERE);
        decoder.decode(0).unwrap();
        decoder
    }

    #[test]
    fn what_is_left_in_the_number_register_is_known() {
        let value = |bytes| decoded(bytes).value(Gpr::RAX);
        assert_eq!(value(&[0xb8, 1, 0, 0, 0]), Some(Value::Constant(1)));
        assert_eq!(value(&[0x48, 0xc7, 0xc0, 15, 0, 0, 0]), Some(Value::Constant(15)));
        assert_eq!(value(&[0x4c, 0x89, 0xc0]), Some(Value::Copy(Gpr(Register::R8))));
        assert_eq!(value(&[0x31, 0xc0]), Some(Value::Set));
        assert_eq!(value(&[0x58]), Some(Value::Set));
        assert_eq!(value(&[0xb0, 1]), Some(Value::Altered));
        assert_eq!(value(&[0x83, 0xc0, 1]), Some(Value::Altered));
        assert_eq!(value(&[0x8b, 0x3f]), None);
    }

    fn assert_agrees_about_moves(bytes: &[u8]) {
        let mut decoder = Decoder::new(bytes, HERE);
        if decoder.decode(0).is_err() || moves::effect(bytes.first_chunk().unwrap()).is_none() {
            return;
        }
        let registers: [Gpr; 16] = core::array::from_fn(|number| Gpr::of(number as u8).unwrap());
        let quick = (decoder.writes_memory(), registers.map(|register| decoder.value(register)));
        let full = decoder.caught_up();
        assert_eq!(
            quick,
            (full.writes_memory(), registers.map(|register| full.value(register))),
            "{bytes:02x?}"
        );
    }

    #[test]
    fn both_decoders_agree_about_moves() {
        for rex in [&[][..], &[0x64], &[0x40], &[0x41], &[0x42], &[0x44], &[0x48], &[0x4f]] {
            for opcode in 0..=u8::MAX {
                for modrm in 0..=u8::MAX {
                    for sib in [0x24, 0x25, 0x0a, 0x90] {
                        assert_agrees_about_moves(&[rex, &[opcode, modrm, sib], &[0x83; 13]].concat());
                    }
                }
            }
        }
    }

    #[test]
    fn stores_and_pushes_write_memory() {
        assert!(decoded(&[0x89, 0x07]).writes_memory());
        assert!(decoded(&[0x50]).writes_memory());
        assert!(!decoded(&[0x8b, 0x3f]).writes_memory());
        assert!(!decoded(&[0x58]).writes_memory());
    }

    proptest! {
        #[test]
        fn no_bytes_decode_past_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(insn) = decode(&bytes, HERE) {
                prop_assert!(usize::from(insn.len) <= bytes.len() && insn.len >= 1);
                prop_assert!(insn.rip_disp_at.is_none_or(|at| at + 4 <= insn.len));
            }
        }
    }
}
