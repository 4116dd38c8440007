//! The first line of a script, read as the kernel reads it (`load_script`, fs/binfmt_script.c, since Linux
//! 5.1).
//!
//! The kernel sees the first 256 bytes of a file, filled up with zero bytes if it is shorter. What follows
//! from that is odd and kept: a zero byte ends a name or an argument like the end of a string, a line that
//! ends with the file keeps its trailing blanks (so that `#!/bin/sh ` passes an empty argument), and an
//! argument may be cut off at byte 255 while a name may not.

use core::fmt;

use crate::abi::errno::Errno;

/// How many bytes of a file the kernel looks at (`BINPRM_BUF_SIZE`, include/uapi/linux/binfmts.h).
pub(crate) const HEAD_LEN: usize = 256;

/// How many scripts may stand one behind the other before a program; one more is `ELOOP` (`exec_binprm`,
/// fs/exec.c).
pub(crate) const NESTING_MAX: usize = 5;

const MARK: &[u8] = b"#!";

/// What the first line of a script asks for.
///
/// The new arguments are `interpreter`, `argument` if there is one, the path of the script, and the old ones
/// without the first. `AT_EXECFN` stays the path that was passed to `execve`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shebang<'h> {
    /// The path of the interpreter; not empty, no zero byte.
    pub interpreter: &'h [u8],
    /// All that follows, as one argument without a zero byte; may be empty.
    pub argument: Option<&'h [u8]>,
}

/// Why a file that starts with `#!` cannot be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Error {
    /// There are only blanks behind `#!`.
    Missing,
    /// A zero byte or the end of the file stands where the interpreter's name should start.
    Empty,
    /// The interpreter's name does not end within the first 256 bytes.
    Long,
}

impl Error {
    /// What `execve` returns for such a file.
    #[must_use]
    pub(crate) const fn errno(self) -> Errno {
        match self {
            Self::Missing | Self::Long => Errno::ENOEXEC,
            // open_exec of an empty name finds the working directory.
            Self::Empty => Errno::EACCES,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "a script without an interpreter behind #!",
            Self::Empty => "a script with an empty interpreter name",
            Self::Long => "a script whose interpreter name does not end within 256 bytes",
        })
    }
}

/// Reads the line that starts a script; `None` if `head`, the start of a file, is not that of a script.
///
/// `head` should hold [`HEAD_LEN`] bytes or the whole file; more is not looked at.
///
/// # Errors
/// [`Error`] if the line names no interpreter that could be run.
pub(crate) fn parse(head: &[u8]) -> Result<Option<Shebang<'_>>, Error> {
    let head = head.get(..HEAD_LEN).unwrap_or(head);
    if !head.starts_with(MARK) {
        return Ok(None);
    }
    let from_name = skip_blanks(line(head)?);
    let interpreter = up_to_zero(up_to_blank(from_name));
    if interpreter.is_empty() {
        return Err(Error::Empty);
    }
    let from_separator = from_name.get(interpreter.len()..).unwrap_or_default();
    let separated = from_separator.first().copied().is_some_and(is_blank);
    let argument = separated.then(|| up_to_zero(skip_blanks(from_separator)));
    Ok(Some(Shebang { interpreter, argument }))
}

/// The line behind the mark, without what the kernel cuts off its end.
fn line(head: &[u8]) -> Result<&[u8], Error> {
    let rest = head.get(MARK.len()..).unwrap_or_default();
    let end = rest.iter().position(|&byte| byte == b'\n' || byte == 0).unwrap_or(rest.len());
    let line = if rest.get(end) == Some(&b'\n') {
        rest.get(..end).unwrap_or_default()
    } else if head.len() < HEAD_LEN - 1 {
        // The zero bytes behind the file are part of the line, and its trailing blanks not at its end.
        return Ok(rest);
    } else {
        let from_name = skip_blanks(rest);
        if head.len() == HEAD_LEN && !from_name.is_empty() && up_to_zero(up_to_blank(from_name)) == from_name
        {
            return Err(Error::Long);
        }
        head.get(MARK.len()..HEAD_LEN - 1).unwrap_or_default()
    };
    let kept = line.iter().rposition(|&byte| !is_blank(byte)).ok_or(Error::Missing)?;
    Ok(line.get(..=kept).unwrap_or_default())
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&byte| !is_blank(byte)).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

fn up_to_blank(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| is_blank(byte)).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or_default()
}

fn up_to_zero(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::sample::Executable;
    use proptest::prelude::*;
    use std::string::String;
    use std::vec::Vec;

    fn shebang(
        interpreter: &'static str,
        argument: Option<&'static str>,
    ) -> Result<Option<Shebang<'static>>, Error> {
        let argument = argument.map(str::as_bytes);
        Ok(Some(Shebang { interpreter: interpreter.as_bytes(), argument }))
    }

    #[test]
    fn reads_lines_as_the_kernel_does() {
        let rows = [
            ("\x7fELF", Ok(None)),
            ("#", Ok(None)),
            ("", Ok(None)),
            (" #!/bin/sh\n", Ok(None)),
            ("#!/bin/sh\necho", shebang("/bin/sh", None)),
            ("#!/bin/sh", shebang("/bin/sh", None)),
            ("#! \t/bin/sh\n", shebang("/bin/sh", None)),
            ("#!/bin/sh -e\n", shebang("/bin/sh", Some("-e"))),
            ("#!/usr/bin/env \t-S two words \t\n", shebang("/usr/bin/env", Some("-S two words"))),
            ("#!/bin/sh\r\n", shebang("/bin/sh\r", None)),
            ("#!/bin/sh \n", shebang("/bin/sh", None)),
            ("#!/bin/sh  ", shebang("/bin/sh", Some(""))),
            ("#!/bin/sh -e  ", shebang("/bin/sh", Some("-e  "))),
            ("#!/bin/sh\0-e\n", shebang("/bin/sh", None)),
            ("#!/bin/sh a\0b\n", shebang("/bin/sh", Some("a"))),
            ("#!/bin/sh \0b\n", shebang("/bin/sh", Some(""))),
            ("#!sh\n", shebang("sh", None)),
            ("#!\n", Err(Error::Missing)),
            ("#! \t\n", Err(Error::Missing)),
            ("#!", Err(Error::Empty)),
            ("#!  ", Err(Error::Empty)),
            ("#! \0/bin/sh\n", Err(Error::Empty)),
        ];
        for (head, expected) in rows {
            assert_eq!(parse(head.as_bytes()), expected, "{head:?}");
        }
    }

    #[test]
    fn a_name_takes_253_bytes_and_no_more() {
        let name = |len: usize| std::format!("/{}", "x".repeat(len - 1));
        let reads = |head: String| parse(head.as_bytes()).map(|shebang| shebang.unwrap().interpreter.len());
        assert_eq!(reads(std::format!("#!{}\n", name(253))), Ok(253));
        assert_eq!(reads(std::format!("#!{} ", name(253))), Ok(253));
        assert_eq!(reads(std::format!("#!{}", name(253))), Ok(253));
        assert_eq!(reads(std::format!("#!{}", name(254))), Err(Error::Long));
        assert_eq!(reads(std::format!("#!{}\n", name(254))), Err(Error::Long));
    }

    #[test]
    fn a_long_argument_is_cut_off_at_byte_255() {
        let head = std::format!("#!/bin/sh {}\n", "y".repeat(400));
        let argument = parse(head.as_bytes()).unwrap().unwrap().argument.unwrap();
        assert_eq!(argument.len(), 255 - "#!/bin/sh ".len());
    }

    const ENOENT: u16 = 2;

    /// What comes of executing a script for `echo`.
    fn predicted(script: &Executable, head: &[u8]) -> Result<Vec<u8>, u16> {
        match parse(head) {
            Ok(None) => Err(Errno::ENOEXEC.0),
            Err(error) => Err(error.errno().0),
            Ok(Some(shebang)) if shebang.interpreter.ends_with(b"/bin/echo") => {
                let words: Vec<&[u8]> =
                    shebang.argument.into_iter().chain([script.path(), b"one\n"]).collect();
                Ok(words.join(&b' '))
            }
            Ok(Some(_)) => Err(ENOENT),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_kernel_agrees(
            before in "[ \t]{0,2}",
            slashes in prop::sample::select(std::vec![0_usize, 3, 240, 241, 242, 243, 244, 245]),
            name in prop::sample::select(std::vec!["/bin/echo", "/bin/echo", "/bin/echo", ""]),
            after in "([ \t]{0,2}|[ \t\x00a]{0,4})(b c|\x00|\r|)[ ]{0,2}",
            padding in prop::sample::select(std::vec![0_usize, 0, 100, 260]),
            end in "\n?",
        ) {
            let slashes = if name.is_empty() { 0 } else { slashes };
            let spaces = " ".repeat(padding);
            let head = std::format!("#!{before}{}{name}{after}{spaces}{end}", "/".repeat(slashes));
            let script = Executable::new("script", head.as_bytes());
            let native = script.run().map(|output| output.stdout);
            prop_assert_eq!(native, predicted(&script, head.as_bytes()));
        }

        #[test]
        fn any_head_gives_parts_of_itself(
            rest in prop::collection::vec(prop::sample::select(&b"#! \t\n\0/ab"[..]), 0..300),
        ) {
            let head = [MARK, &rest].concat();
            if let Ok(Some(shebang)) = parse(&head) {
                let seen = &head[..HEAD_LEN.min(head.len())];
                let within = |part: &[u8]| seen.windows(part.len().max(1)).any(|window| window == part);
                prop_assert!(within(shebang.interpreter));
                prop_assert!(!shebang.interpreter.iter().any(|byte| b" \t\n\0".contains(byte)));
                prop_assert!(shebang.argument.is_none_or(|argument| argument.is_empty() || within(argument)));
            }
        }
    }
}
