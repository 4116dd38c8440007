//! Error numbers of the kernel.

/// An error number, 1 to 4095. Not an enum: the kernel may return numbers that no list here knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Errno(pub u16);
