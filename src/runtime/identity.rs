//! Calls that would show the loader where the program expects itself. Zone: call.
//!
//! `/proc/self/exe` is the loader's file, since only a privileged process may change that link while files are mapped
//! from it (kernel/sys.c, `prctl_set_mm_exe_file`). So `readlink` and `readlinkat` are answered here.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::sysno;
use crate::addr::GuestAddr;
use crate::runtime::dispatch::Step;
use crate::runtime::state::Frozen;
use crate::sys::process;

/// Before `readlink` and `readlinkat`: answers the question about `/proc/self/exe` as the kernel does
/// (fs/stat.c, `do_readlinkat`).
pub fn read_link(call: &Call, frozen: &Frozen) -> Step {
    let [first, second, third, fourth, ..] = call.args;
    let (path, buffer, room) = match call.nr {
        sysno::READLINK => (first, second, third),
        _ => (second, third, fourth),
    };
    if !names_exe(GuestAddr(path)) {
        return Step::Pass;
    }
    Step::Answer(match answer(frozen.program.to_bytes(), GuestAddr(buffer), room) {
        Ok(len) => Outcome(len),
        Err(errno) => Outcome::failure(errno),
    })
}

fn answer(program: &[u8], buffer: GuestAddr, room: u64) -> Result<u64, Errno> {
    let room = (room as u32).cast_signed(); // an int for the kernel
    let room = usize::try_from(room).ok().filter(|&room| room > 0).ok_or(Errno::EINVAL)?;
    let shown = program.get(..program.len().min(room)).unwrap_or_default();
    match process::write_memory(buffer, shown)? {
        len if len == shown.len() => Ok(len as u64),
        _ => Err(Errno::EFAULT),
    }
}

/// Whether the path at `path` is a spelling of the calling process's own link.
fn names_exe(path: GuestAddr) -> bool {
    let mut bytes = [0_u8; 64];
    let len = process::read_memory(path, &mut bytes).unwrap_or(0);
    let text = bytes.get(..len).unwrap_or_default();
    let end = text.iter().position(|&byte| byte == 0);
    let Some(owner) = end.and_then(|end| owner_in(text.get(..end)?)) else { return false };
    match owner {
        Owner::Caller => true,
        Owner::Number(id) => id == process::id(),
    }
}

/// Whose link a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Caller,
    Number(u32),
}

/// Reads `/proc/OWNER/exe`.
fn owner_in(path: &[u8]) -> Option<Owner> {
    let owner = path.strip_prefix(b"/proc/")?.strip_suffix(b"/exe")?;
    match owner {
        b"self" | b"thread-self" => Some(Owner::Caller),
        digits => core::str::from_utf8(digits).ok()?.parse().ok().map(Owner::Number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_spellings_of_the_link() {
        assert_eq!(owner_in(b"/proc/self/exe"), Some(Owner::Caller));
        assert_eq!(owner_in(b"/proc/thread-self/exe"), Some(Owner::Caller));
        assert_eq!(owner_in(b"/proc/123/exe"), Some(Owner::Number(123)));
        for other in [&b"/proc/self/maps"[..], b"/proc/exe", b"/proc//exe", b"/proc/12a/exe", b"exe", b""] {
            assert_eq!(owner_in(other), None, "{other:?}");
        }
    }
}
