//! Reading and writing single instructions, and the only door to `iced-x86`.
//!
//! [`scan`] searches bytes without a decoder, because the first decode alone costs about a millisecond of
//! table building; [`decode`] reads one instruction; [`encode`] writes the few that patches are made of.

mod common;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod gpr;
pub(crate) mod insn;
mod moves;
pub(crate) mod scan;
