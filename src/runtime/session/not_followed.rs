//! Programs of the tree that run without the loader, and why: what the report can't speak for. Zone: call.

use crate::hook::text::SharedText;
use crate::report::Escaped;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many are told by their paths.
const NAMED: usize = 8;
/// Words of a path; the rest of a longer one is cut off.
const PATH_WORDS: usize = 16;

/// Why a program runs natively.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Reason {
    /// Nobody wants it otherwise.
    NotAsked,
    /// A program of the same tree traces it, and knows what the kernel does at an exec.
    Traced,
    /// It gets rights from its file: set-id, or capabilities.
    Privileged,
    /// It may be executed, but not read.
    Unreadable,
    /// It has 32-bit code.
    Class32,
    /// It is the loader itself, which has its own work.
    Loader,
    /// Nothing leads to the loader's file any more.
    LoaderGone,
    /// No memory or no descriptor is left for the exec.
    NoRoom,
    /// Only the kernel knows how to run it: another architecture, or a registered format.
    Foreign,
}

impl Reason {
    const ALL: [Self; 9] = [
        Self::NotAsked,
        Self::Traced,
        Self::Privileged,
        Self::Unreadable,
        Self::Class32,
        Self::Loader,
        Self::LoaderGone,
        Self::NoRoom,
        Self::Foreign,
    ];

    /// It in a few words.
    #[must_use]
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::NotAsked => "not followed, as asked",
            Self::Traced => "traced by a program of the tree",
            Self::Privileged => "gets rights from its file",
            Self::Unreadable => "can't be read",
            Self::Class32 => "32-bit code",
            Self::Loader => "the loader itself",
            Self::LoaderGone => "the loader's file can't be reached",
            Self::NoRoom => "no memory or descriptor left",
            Self::Foreign => "a format that only the kernel knows",
        }
    }
}

/// One of the first programs that ran natively.
#[repr(C)]
#[derive(Debug)]
struct Named {
    /// The reason's number plus one; 0 while the place is free.
    reason: AtomicU32,
    path: SharedText<PATH_WORDS>,
}

/// How many programs run, or ran, natively, and which. All bytes zero is a valid value: none.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Natives {
    counts: [AtomicU64; Reason::ALL.len()],
    named: [Named; NAMED],
}

impl Natives {
    /// None.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; Reason::ALL.len()],
            named: [const { Named { reason: AtomicU32::new(0), path: SharedText::new() } }; NAMED],
        }
    }

    /// The program at `path` is about to run natively.
    #[must_use]
    pub(crate) fn leave(&self, reason: Reason, path: &[u8]) -> Departure<'_> {
        let key = reason as u32 + 1;
        let is_free = |named: &&Named| {
            named.reason.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let named = self.named.iter().find(is_free);
        if let Some(named) = named {
            named.path.set(path);
        }
        let count = self.counts.get(reason as usize);
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Departure { count, named }
    }

    /// The reasons that there have been, and how often.
    fn reasons(&self) -> impl Iterator<Item = (Reason, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Reason::ALL.into_iter().zip(counts).filter(|&(_, count)| count != 0)
    }

    /// The first programs that ran natively for this reason.
    fn named(&self, reason: Reason) -> impl Iterator<Item = &Named> {
        self.named.iter().filter(move |named| named.reason.load(Ordering::Relaxed) == reason as u32 + 1)
    }
}

impl Default for Natives {
    fn default() -> Self {
        Self::new()
    }
}

/// A program that is about to run natively; undone when dropped, for then its exec has failed.
#[derive(Debug)]
pub(crate) struct Departure<'n> {
    count: Option<&'n AtomicU64>,
    named: Option<&'n Named>,
}

impl Drop for Departure<'_> {
    fn drop(&mut self) {
        if let Some(count) = self.count {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(named) = self.named {
            named.reason.store(0, Ordering::Relaxed);
        }
    }
}

/// Nothing if there are none; else a line with their number, one for each reason, and the paths below it.
impl fmt::Display for Natives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reasons().map(|(_, count)| count).sum() {
            0_u64 => return Ok(()),
            1 => writeln!(f, "1 program ran natively:")?,
            more => writeln!(f, "{more} programs ran natively:")?,
        }
        for (reason, count) in self.reasons() {
            writeln!(f, "{count:>10} {}", reason.text())?;
            for named in self.named(reason) {
                writeln!(f, "{:>10} {}", "", named.path)?;
            }
        }
        Ok(())
    }
}

/// The same as a JSON array: an object for each reason.
#[derive(Debug)]
pub(crate) struct AsJson<'n>(pub &'n Natives);

impl fmt::Display for AsJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        let mut comma = "";
        for (reason, count) in self.0.reasons() {
            write!(f, r#"{comma}{{"reason":"{}","programs":{count},"first":["#, reason.text())?;
            comma = "";
            for named in self.0.named(reason) {
                let mut path = [0; PATH_WORDS * 8];
                let len = path.iter_mut().zip(named.path.bytes()).map(|(to, byte)| *to = byte).count();
                write!(f, r#"{comma}"{}""#, Escaped(path.get(..len).unwrap_or_default()))?;
                comma = ",";
            }
            f.write_str("]}")?;
            comma = ",";
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn says_how_many_why_and_which() {
        let natives = Natives::new();
        assert_eq!(natives.to_string(), "");
        assert_eq!(AsJson(&natives).to_string(), "[]");
        core::mem::forget(natives.leave(Reason::Class32, b"/opt/old"));
        assert_eq!(
            natives.to_string(),
            "1 program ran natively:\n         1 32-bit code\n           /opt/old\n"
        );
        core::mem::forget(natives.leave(Reason::Privileged, b"/bin/su"));
        let text = natives.to_string();
        assert!(
            text.starts_with("2 programs ran natively:\n         1 gets rights from its file\n"),
            "{text}"
        );
        assert!(text.ends_with("           /opt/old\n"), "{text}");
        core::mem::forget(natives.leave(Reason::Class32, b"/opt/\"new\""));
        assert_eq!(
            AsJson(&natives).to_string(),
            "[{\"reason\":\"gets rights from its file\",\"programs\":1,\"first\":[\"/bin/su\"]},\
             {\"reason\":\"32-bit code\",\"programs\":2,\"first\":[\"/opt/old\",\"/opt/\\\"new\\\"\"]}]"
        );
    }

    #[test]
    fn an_exec_that_fails_is_none() {
        let natives = Natives::new();
        drop(natives.leave(Reason::Foreign, b"/nowhere"));
        assert_eq!(natives.to_string(), "");
    }

    #[test]
    fn only_the_first_are_named() {
        let natives = Natives::new();
        (0..20).for_each(|_| core::mem::forget(natives.leave(Reason::NoRoom, b"/p")));
        assert_eq!(natives.to_string().matches("/p\n").count(), NAMED);
        assert!(natives.to_string().contains("20 no memory"));
    }
}
