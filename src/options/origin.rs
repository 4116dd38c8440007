//! What an exec'd loader is told by the one that exec'd it: the value of `--follow`.
//!
//! `root=PID,first=1,segment=ID,memory=FD,output=FD,file=FD,nameless=1,table=AT:LEN`: facts in any order, each at most once, numbers in
//! decimal; only `root` must be there. The loader writes this word when a program it runs execs another, and nobody types it. The options
//! that were typed stand behind it once more, then `--`, the path as the program passed it to the kernel,
//! and the new program's own arguments.

use core::fmt;

/// What the exec'd loader can't find out by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Origin {
    /// The process whose end is the end of the run.
    pub root: u32,
    /// Whether that is the process itself: ids alone don't tell, since other namespaces have the same.
    pub is_root: bool,
    /// The System V shared memory segment that the run's processes have in common.
    pub segment: Option<u32>,
    /// A descriptor of a copy of that memory, for when the segment is gone with the last who had it; to be closed.
    pub memory: Option<u32>,
    /// A descriptor of the tools' file, where its path may not lead to it any more; to be closed.
    pub output: Option<u32>,
    /// A descriptor of the file to run, where its path leads elsewhere or nowhere; to be closed.
    pub file: Option<u32>,
    /// Whether the exec named no path at all, but a descriptor (`AT_EMPTY_PATH`).
    pub nameless: bool,
    /// Offset and length in bytes of the tools' last words in their file. A length of 0: not said yet, the file ends
    /// there.
    pub table: Option<(u64, u64)>,
}

impl Origin {
    /// Reads the value of `--follow`; `None` if it is not one that [`Display`](fmt::Display) writes.
    #[must_use]
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let mut origin = Self::default();
        let mut has_root = false;
        for fact in value.split(|&byte| byte == b',') {
            let equals = fact.iter().position(|&byte| byte == b'=')?;
            let (name, text) = (fact.get(..equals)?, fact.get(equals.checked_add(1)?..)?);
            match name {
                b"root" => {
                    origin.root = number(text)?;
                    has_root = true;
                }
                b"first" => origin.is_root = number::<u8>(text)? != 0,
                b"segment" => origin.segment = Some(number(text)?),
                b"memory" => origin.memory = Some(number(text)?),
                b"output" => origin.output = Some(number(text)?),
                b"file" => origin.file = Some(number(text)?),
                b"nameless" => origin.nameless = number::<u8>(text)? != 0,
                b"table" => {
                    let colon = text.iter().position(|&byte| byte == b':')?;
                    origin.table =
                        Some((number(text.get(..colon)?)?, number(text.get(colon.checked_add(1)?..)?)?));
                }
                _ => return None,
            }
        }
        has_root.then_some(origin)
    }
}

fn number<N: core::str::FromStr>(text: &[u8]) -> Option<N> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "root={}", self.root)?;
        if self.is_root {
            write!(f, ",first=1")?;
        }
        if let Some(segment) = self.segment {
            write!(f, ",segment={segment}")?;
        }
        if let Some(memory) = self.memory {
            write!(f, ",memory={memory}")?;
        }
        if let Some(output) = self.output {
            write!(f, ",output={output}")?;
        }
        if let Some(file) = self.file {
            write!(f, ",file={file}")?;
        }
        if self.nameless {
            write!(f, ",nameless=1")?;
        }
        match self.table {
            Some((at, len)) => write!(f, ",table={at}:{len}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            root: u32, is_root: bool, segment: Option<u32>, memory: Option<u32>, output: Option<u32>,
            file: Option<u32>, nameless: bool,
            table: Option<(u64, u64)>,
        ) {
            let origin = Origin { root, is_root, segment, memory, output, file, nameless, table };
            prop_assert_eq!(Origin::parse(origin.to_string().as_bytes()), Some(origin));
        }

        #[test]
        fn any_bytes_are_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Origin::parse(&value);
        }
    }

    #[test]
    fn refuses_what_nobody_writes() {
        for value in
            ["", "root", "root=", "root=x", "root=-1", "root=4294967296", "segment=1", "root=1,new=2"]
        {
            assert_eq!(Origin::parse(value.as_bytes()), None, "{value}");
        }
    }
}
