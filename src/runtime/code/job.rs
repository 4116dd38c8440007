//! A text to be patched, where it comes from and how it can be written. Zone: call.

use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::addr::GuestAddr;
use crate::elf::image::Image;
use crate::find::site::Text;
use crate::runtime::code::reach::Reach;
use crate::runtime::memory::code_writer;

/// How the bytes of a text can be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// They are writable, nobody executes them, and they are still the file's: nobody has written to them.
    Fresh,
    /// They are writable, and nobody executes them.
    Writable,
    /// They are executable already, and nobody executes them yet.
    Executable,
    /// Threads may be executing them.
    Live {
        /// Whether they can be written as data can.
        is_writable: bool,
    },
}

impl Access {
    /// What trampolines for such a text are mapped with: written by the same way, and executable in the end.
    pub(super) const fn for_trampolines(self) -> Protection {
        match self {
            Self::Fresh | Self::Writable => Protection::READ_WRITE,
            Self::Executable | Self::Live { .. } => Protection::READ_EXECUTE,
        }
    }

    /// Writes code.
    ///
    /// # Errors
    ///
    /// The kernel's.
    ///
    /// # Safety
    ///
    /// The range is mapped, and in the state that `self` says.
    pub(super) unsafe fn write(self, at: GuestAddr, bytes: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Fresh | Self::Writable => {
                // SAFETY: it is writable and nobody executes it, as the caller vouches.
                unsafe { code_writer::write(at, bytes) };
                Ok(())
            }
            Self::Executable | Self::Live { .. } => code_writer::write_live(at, bytes),
        }
    }
}

/// A text to be patched, and the file it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a, 'f> {
    /// The bytes in memory, and where they run.
    pub text: Text<'a>,
    /// How to write them.
    pub access: Access,
    /// The file, if it is one that says something about its functions.
    pub image: Option<&'a Image<'f>>,
    /// Run-time minus link-time address.
    pub bias: u64,
    /// Where trampolines may lie that punned jumps point at.
    pub reach: Reach,
    /// How far from where it will run the text lies for now.
    pub shift: u64,
    /// The one hit that is to be patched, and the number that it was executed with; `None` for all that are proved.
    pub executed: Option<(GuestAddr, u32)>,
}
