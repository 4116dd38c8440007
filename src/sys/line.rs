//! A line built in a fixed buffer and written with one call. Zone: call.

use super::file;
use core::fmt;

/// Up to `N` bytes of text; what does not fit is cut.
#[derive(Debug)]
pub(crate) struct Line<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Line<N> {
    /// An empty line.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Appends bytes that need not be UTF-8, such as a path.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let fits = bytes.len().min(room.len());
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.len = self.len.saturating_add(fits);
    }

    /// What has been written so far.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// How many bytes still fit.
    #[must_use]
    pub(crate) const fn room(&self) -> usize {
        N.saturating_sub(self.len)
    }

    /// Writes it to the process's stderr; a stderr that is closed or full is not an error of ours.
    pub(crate) fn to_stderr(&self) {
        let _ = file::write(file::STDERR, self.as_bytes());
    }
}

impl<const N: usize> Default for Line<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Write for Line<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn cuts_what_does_not_fit() {
        let mut line = Line::<8>::new();
        write!(line, "abcd-{}", 12345).unwrap();
        assert_eq!(line.as_bytes(), b"abcd-123");
    }
}
