//! Calls and outcomes as text, in the manner of `strace`.
//!
//! What an argument points to is read while it is printed and may be anything by then: whatever can't be read is
//! shown as an address. All text is printable ASCII on one line, so no program can forge lines.

use core::fmt::{self, Write};

use crate::abi::call::{Call, Outcome};
use crate::abi::open::AT_FDCWD;
use crate::abi::signal::Signal;
use crate::abi::sysno::{self, ArgKind, Returns};
use crate::addr::GuestAddr;
use crate::hook::tool::Guest;

/// How many bytes of a buffer are shown.
const BUFFER_SHOWN: usize = 32;

/// How many bytes of a path are shown.
const PATH_SHOWN: usize = 255;

/// The name of a call, also of one that has none.
pub struct Name(pub u32);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (sysno::name(self.0), sysno::i386(self.0)) {
            (Some(name), _) => f.write_str(name),
            (None, Some(nr)) => write!(f, "i386:{nr}"),
            (None, None) => write!(f, "syscall_{:#x}", self.0),
        }
    }
}

/// Writes `name(argument, argument`, without the closing parenthesis.
///
/// Buffers that the call fills are shown only where `outcome` tells how much it filled.
///
/// # Errors
///
/// Those of `out`.
pub fn call(out: &mut dyn Write, call: &Call, outcome: Option<Outcome>, guest: &dyn Guest) -> fmt::Result {
    write!(out, "{}(", Name(call.nr))?;
    let signature = sysno::signature(call.nr);
    let nexts = call.args.iter().skip(1).copied().chain([0]);
    for (index, (&value, next)) in call.args.iter().zip(nexts).enumerate() {
        let Some(kind) = signature.arg(index) else { break };
        if index > 0 {
            out.write_str(", ")?;
        }
        match kind {
            ArgKind::Path => path(out, GuestAddr(value), guest)?,
            ArgKind::BufferIn => buffer(out, GuestAddr(value), next, guest)?,
            ArgKind::BufferOut => match outcome {
                Some(filled) if filled.errno().is_none() => {
                    buffer(out, GuestAddr(value), next.min(filled.0), guest)?;
                }
                _ => address(out, value)?,
            },
            _ => number(out, kind, value)?,
        }
    }
    Ok(())
}

/// Writes what came of the call `nr`: a number, an address, or `-1` and the error.
///
/// An interrupted call that is to be made again has `?` in place of `-1`: the program sees neither.
///
/// # Errors
///
/// Those of `out`.
pub fn outcome(out: &mut dyn Write, nr: u32, outcome: Outcome) -> fmt::Result {
    match outcome.errno() {
        Some(errno) => {
            out.write_str(if errno.is_restart() { "? " } else { "-1 " })?;
            match errno.name() {
                Some(name) => write!(out, "{name} ({errno})"),
                None => write!(out, "({errno})"),
            }
        }
        None if sysno::signature(nr).returns() == Returns::Address => write!(out, "{:#x}", outcome.0),
        None => write!(out, "{}", outcome.0.cast_signed()),
    }
}

fn number(out: &mut dyn Write, kind: ArgKind, value: u64) -> fmt::Result {
    match kind {
        ArgKind::Offset => write!(out, "{}", value.cast_signed()),
        ArgKind::Size => write!(out, "{value}"),
        ArgKind::Fd if low_half(value) == low_half(AT_FDCWD) => out.write_str("AT_FDCWD"),
        ArgKind::Int | ArgKind::Fd => write!(out, "{}", low_half(value).cast_signed()),
        ArgKind::Signal => match Signal(low_half(value)).name() {
            Some(name) => out.write_str(name),
            None => write!(out, "{}", low_half(value).cast_signed()),
        },
        ArgKind::Address | ArgKind::Path | ArgKind::BufferIn | ArgKind::BufferOut => address(out, value),
        ArgKind::Flags | ArgKind::Mode if value == 0 => out.write_str("0"),
        ArgKind::Flags => write!(out, "{value:#x}"),
        ArgKind::Mode => write!(out, "0{value:o}"),
    }
}

/// The half of a register that the kernel looks at for an `int`.
const fn low_half(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn address(out: &mut dyn Write, value: u64) -> fmt::Result {
    if value == 0 { out.write_str("NULL") } else { write!(out, "{value:#x}") }
}

fn path(out: &mut dyn Write, at: GuestAddr, guest: &dyn Guest) -> fmt::Result {
    let mut bytes = [0; PATH_SHOWN + 1];
    let len = guest.read(at, &mut bytes);
    let readable = bytes.get(..len).unwrap_or_default();
    match (readable.iter().position(|&byte| byte == 0), readable.split_last_chunk::<1>()) {
        (Some(end), _) => quoted(out, readable.get(..end).unwrap_or_default()),
        (None, Some((shown, _))) if shown.len() == PATH_SHOWN => {
            quoted(out, shown)?;
            out.write_str("...")
        }
        _ => address(out, at.0),
    }
}

fn buffer(out: &mut dyn Write, at: GuestAddr, len: u64, guest: &dyn Guest) -> fmt::Result {
    let mut bytes = [0; BUFFER_SHOWN];
    let shown_len = usize::try_from(len).unwrap_or(usize::MAX).min(BUFFER_SHOWN);
    let Some(shown) = bytes.get_mut(..shown_len) else { return address(out, at.0) };
    if at.0 == 0 || guest.read(at, shown) < shown_len {
        return address(out, at.0);
    }
    quoted(out, shown)?;
    if len > BUFFER_SHOWN as u64 { out.write_str("...") } else { Ok(()) }
}

/// Writes `bytes` as a C string literal; octal escapes are as short as the byte after them allows.
fn quoted(out: &mut dyn Write, mut bytes: &[u8]) -> fmt::Result {
    out.write_char('"')?;
    while let [byte, rest @ ..] = bytes {
        match byte {
            b'\n' => out.write_str("\\n")?,
            b'\t' => out.write_str("\\t")?,
            b'\r' => out.write_str("\\r")?,
            0x0b => out.write_str("\\v")?,
            0x0c => out.write_str("\\f")?,
            b'"' | b'\\' => write!(out, "\\{}", char::from(*byte))?,
            b' '..=b'~' => out.write_char(char::from(*byte))?,
            _ if rest.first().is_some_and(u8::is_ascii_digit) => write!(out, "\\{byte:03o}")?,
            _ => write!(out, "\\{byte:o}")?,
        }
        bytes = rest;
    }
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use proptest::prelude::*;

    use super::*;
    use crate::abi::errno::Errno;
    use crate::hook::fake::FakeGuest;
    use crate::hook::line::{END_LEN, LINE_LEN, Line};

    const AT: u64 = 0x1000;

    fn rendered(nr: u32, args: [u64; 6], done: Option<Outcome>, memory: &[u8]) -> String {
        let mut text = String::new();
        call(&mut text, &Call { nr, args }, done, &FakeGuest::new(AT, memory)).unwrap();
        text
    }

    fn came_of(nr: u32, value: Outcome) -> String {
        let mut text = String::new();
        outcome(&mut text, nr, value).unwrap();
        text
    }

    #[test]
    fn each_kind_of_number_has_its_form() {
        let minus_100 = 0xffff_ff9c;
        let args = [minus_100, 0, 0, 0o644, 0, 0];
        assert_eq!(rendered(sysno::OPENAT, args, None, b""), "openat(AT_FDCWD, NULL, 0, 0644");
        let args = [0, 4096, 3, 0x22, u64::MAX, 0];
        assert_eq!(rendered(sysno::MMAP, args, None, b""), "mmap(NULL, 4096, 0x3, 0x22, -1, 0");
        assert_eq!(rendered(sysno::LSEEK, [3, u64::MAX, 2, 0, 0, 0], None, b""), "lseek(3, -1, 2");
        assert_eq!(rendered(sysno::KILL, [u64::MAX, 9, 0, 0, 0, 0], None, b""), "kill(-1, SIGKILL");
        assert_eq!(rendered(sysno::KILL, [1, 40, 0, 0, 0, 0], None, b""), "kill(1, 40");
        assert_eq!(rendered(sysno::GETPID, [7; 6], None, b""), "getpid(");
        assert_eq!(rendered(sysno::of_i386(20), [0; 6], None, b""), "i386:20(0, 0, 0, 0, 0, 0");
        assert_eq!(
            rendered(0x1234, [1, 0, 3, 4, 5, 6], None, b""),
            "syscall_0x1234(0x1, 0, 0x3, 0x4, 0x5, 0x6"
        );
    }

    #[test]
    fn a_path_ends_at_its_zero_byte_or_is_marked_as_longer() {
        let args = [AT, 0, 0, 0, 0, 0];
        assert_eq!(rendered(sysno::CHDIR, args, None, b"/tmp\0x"), "chdir(\"/tmp\"");
        assert_eq!(rendered(sysno::CHDIR, args, None, b"\0"), "chdir(\"\"");
        let mut long = [b'a'; 300];
        let shown = "a".repeat(255);
        assert_eq!(rendered(sysno::CHDIR, args, None, &long), std::format!("chdir(\"{shown}\"..."));
        long[255] = 0;
        assert_eq!(rendered(sysno::CHDIR, args, None, &long), std::format!("chdir(\"{shown}\""));
    }

    #[test]
    fn what_cannot_be_read_is_an_address() {
        let unterminated = rendered(sysno::CHDIR, [AT, 0, 0, 0, 0, 0], None, b"/tmp");
        assert_eq!(unterminated, "chdir(0x1000");
        let missing = rendered(sysno::WRITE, [1, 0x9000, 5, 0, 0, 0], None, b"");
        assert_eq!(missing, "write(1, 0x9000, 5");
        let partly = rendered(sysno::WRITE, [1, AT, 5, 0, 0, 0], None, b"abc");
        assert_eq!(partly, "write(1, 0x1000, 5");
    }

    #[test]
    fn a_buffer_is_shown_as_far_as_it_is_used() {
        let args = [1, AT, 5, 0, 0, 0];
        assert_eq!(rendered(sysno::WRITE, args, None, b"hello, world"), "write(1, \"hello\", 5");
        assert_eq!(rendered(sysno::READ, args, None, b"hello"), "read(1, 0x1000, 5");
        assert_eq!(rendered(sysno::READ, args, Some(Outcome(2)), b"hello"), "read(1, \"he\", 5");
        assert_eq!(rendered(sysno::READ, args, Some(Outcome(9)), b"hello, world"), "read(1, \"hello\", 5");
        let failed = Outcome::failure(Errno::EFAULT);
        assert_eq!(rendered(sysno::READ, args, Some(failed), b"hello"), "read(1, 0x1000, 5");
        let long = rendered(sysno::WRITE, [1, AT, 33, 0, 0, 0], None, &[b'x'; 40]);
        assert_eq!(long, std::format!("write(1, \"{}\"..., 33", "x".repeat(32)));
        assert_eq!(rendered(sysno::WRITE, [1, AT, 0, 0, 0, 0], None, b""), "write(1, \"\", 0");
    }

    #[test]
    fn bytes_are_escaped_as_strace_does() {
        let memory = b"\x7fELF\x02\x01\x01\x0012\n\t\r\x0b\x0c\"\\\xff ~";
        let text = rendered(sysno::WRITE, [1, AT, memory.len() as u64, 0, 0, 0], None, memory);
        assert_eq!(text, r#"write(1, "\177ELF\2\1\1\00012\n\t\r\v\f\"\\\377 ~", 20"#);
    }

    #[test]
    fn an_outcome_is_a_number_an_address_or_an_error() {
        assert_eq!(came_of(sysno::READ, Outcome(5)), "5");
        assert_eq!(came_of(sysno::MMAP, Outcome(0x7f00_0000_0000)), "0x7f0000000000");
        let enoent = Outcome::failure(Errno::ENOENT);
        assert_eq!(came_of(sysno::MMAP, enoent), "-1 ENOENT (No such file or directory)");
        assert_eq!(came_of(sysno::READ, Outcome::failure(Errno(4000))), "-1 (Unknown error 4000)");
        let restart = Outcome::failure(Errno::ERESTARTSYS);
        assert_eq!(came_of(sysno::READ, restart), "? ERESTARTSYS (To be restarted if SA_RESTART is set)");
        assert_eq!(came_of(sysno::LSEEK, Outcome(1 << 63)), "-9223372036854775808");
    }

    #[test]
    fn every_outcome_fits_into_the_end_of_a_line() {
        let longest = (0..=4096).map(|value: u64| came_of(0, Outcome(value.wrapping_neg())).len()).max();
        assert!(longest.is_some_and(|len| len + "<>  = \n".len() + 32 <= END_LEN));
    }

    proptest! {
        #[test]
        fn any_call_over_any_bytes_is_printable_ascii_that_fits(
            nr in prop_oneof![0_u32..520, any::<u32>()],
            args in prop::array::uniform6(prop_oneof![AT - 2..AT + 600, 0_u64..64, any::<u64>()]),
            done in prop_oneof![Just(None), (0_u64..64).prop_map(Some), any::<u64>().prop_map(Some)],
            memory in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let guest = FakeGuest::new(AT, &memory);
            let mut line = Line::new();
            call(&mut line, &Call { nr, args }, done.map(Outcome), &guest).unwrap();
            line.begin_end();
            outcome(&mut line, nr, Outcome(done.unwrap_or(0))).unwrap();
            prop_assert!(line.bytes().len() <= LINE_LEN);
            prop_assert!(line.bytes().iter().all(|byte| (b' '..=b'~').contains(byte)));
        }
    }
}
