//! One line of output in a fixed buffer.
//!
//! A line goes out in one piece or those of several threads would mix, and nothing can be allocated in the middle of a
//! system call. What does not fit is cut and marked; room for the end of the line is set aside, because
//! what came of a call matters more than its last argument.

use core::fmt;

use heapless::Vec;

/// The longest line in bytes, newline included.
pub const LINE_LEN: usize = 1024;

/// How many of them are set aside for the end.
pub const END_LEN: usize = 128;

const CUT_MARK: &[u8] = b"...";
const BODY_LEN: usize = LINE_LEN - END_LEN - CUT_MARK.len();

/// A line: a body that may be cut, marked with `...`, and an end of at most [`END_LEN`] bytes.
///
/// Writing never fails.
pub struct Line {
    bytes: Vec<u8, LINE_LEN>,
    limit: usize,
    cut: bool,
}

impl Line {
    /// A line whose body is empty.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), limit: BODY_LEN, cut: false }
    }

    /// Ends the body: what is written from here on may use the room set aside.
    pub fn begin_end(&mut self) {
        self.limit = LINE_LEN;
        if self.cut {
            self.append(CUT_MARK);
        }
    }

    /// What was written so far.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn append(&mut self, text: &[u8]) {
        let room = self.limit.saturating_sub(self.bytes.len());
        let fitting = text.get(..room).unwrap_or(text);
        self.cut |= self.bytes.extend_from_slice(fitting).is_err() || fitting.len() < text.len();
    }
}

impl Default for Line {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.append(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;
    use std::string::String;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_that_fits_is_not_marked() {
        let mut line = Line::new();
        let body = "x".repeat(BODY_LEN);
        line.write_str(&body).unwrap();
        line.begin_end();
        line.write_str("!\n").unwrap();
        assert_eq!(line.bytes(), (body + "!\n").as_bytes());
    }

    #[test]
    fn a_body_that_is_cut_is_marked_and_its_end_is_kept() {
        let mut line = Line::new();
        line.write_str(&"x".repeat(BODY_LEN + 1)).unwrap();
        line.write_str("lost").unwrap();
        line.begin_end();
        let end = "e".repeat(END_LEN);
        line.write_str(&end).unwrap();
        assert_eq!(line.bytes(), ("x".repeat(BODY_LEN) + "..." + &end).as_bytes());
    }

    proptest! {
        #[test]
        fn holds_a_prefix_of_what_was_written(parts in prop::collection::vec("[a-z]{0,400}", 0..6)) {
            let mut line = Line::new();
            for part in &parts {
                line.write_str(part).unwrap();
            }
            let whole: String = parts.concat();
            prop_assert_eq!(line.bytes(), &whole.as_bytes()[..whole.len().min(BODY_LEN)]);
        }
    }
}
