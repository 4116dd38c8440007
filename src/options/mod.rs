//! The command line as a value.
//!
//! Options come before the program; from the first word that is none, everything is the program's. One table,
//! [`FLAGS`], is both what the parser looks up and what [`Help`] prints, so they cannot disagree.
//! Words are bytes: file names need not be UTF-8.

pub(crate) mod origin;
pub(crate) mod set_interp;

use core::fmt;

use origin::Origin;

/// The loader's name and version.
pub(crate) const VERSION: &str = concat!("loader ", env!("CARGO_PKG_VERSION"));

/// What the command line asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Parsed<'a> {
    /// Run a program.
    Run(Options<'a>),
    /// Print [`Help`].
    Help,
    /// Print [`VERSION`].
    Version,
}

/// What the summary tells apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Summary {
    /// Nothing: one table for all processes.
    Total,
    /// Each process has a table.
    ByProcess,
}

/// How far completeness goes where a system call instruction can't be proved to be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Intercept {
    /// What is not proved passes unseen.
    Fast,
    /// The kernel reports calls from elsewhere than the gate once there is something that may be code and is not proved.
    #[default]
    Auto,
    /// The kernel reports them from the start.
    Exhaustive,
}

impl Intercept {
    fn parse(word: &[u8]) -> Option<Self> {
        match word {
            b"fast" => Some(Self::Fast),
            b"auto" => Some(Self::Auto),
            b"exhaustive" => Some(Self::Exhaustive),
            _ => None,
        }
    }
}

/// How the report is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Report {
    /// For people.
    Text,
    /// One JSON object on a line.
    Json,
}

/// How to run which program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Options<'a> {
    /// Print calls and errors at the end.
    pub summary: Option<Summary>,
    /// Print each call.
    pub trace: bool,
    /// Hook each call and do nothing, to measure what that costs.
    pub empty: bool,
    /// The file that takes what the tools print, instead of standard error.
    pub output: Option<&'a [u8]>,
    /// Leave alone what the program execs.
    pub no_follow: bool,
    /// What is done about system call instructions that can't be proved.
    pub intercept: Intercept,
    /// End the program rather than let a call pass unseen.
    pub strict: bool,
    /// Print, when a process ends, what was intercepted in it and how.
    pub report: Option<Report>,
    /// Tell the program that the kernel has no io_uring.
    pub no_io_uring: bool,
    /// Set where this loader was exec'd by another that follows its program.
    pub origin: Option<Origin>,
    /// How many words, from the first on, are options and their values.
    pub option_words: usize,
    /// The program's name as typed; not looked up yet, perhaps empty.
    pub program: &'a [u8],
    /// Where `program` stands among the words that were parsed; what follows are its arguments.
    pub program_index: usize,
}

/// Why a command line can't be understood; holds the words at fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UsageError<'a> {
    /// No option has this name.
    UnknownOption(&'a [u8]),
    /// The option needs a value, which is missing or empty.
    MissingValue(&'a [u8]),
    /// The option takes no value, and was given one.
    UnexpectedValue(&'a [u8]),
    /// The option takes another kind of value.
    InvalidValue(&'a [u8]),
    /// There is no program to run.
    MissingProgram,
    /// There is no file to write to.
    MissingOutput,
    /// Nothing but options is expected.
    UnexpectedWord(&'a [u8]),
}

impl fmt::Display for UsageError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownOption(word) => write!(f, "unknown option: {}", Word(word)),
            Self::MissingValue(word) => write!(f, "option needs a value: {}", Word(word)),
            Self::UnexpectedValue(word) => write!(f, "option takes no value: {}", Word(word)),
            Self::InvalidValue(word) => write!(f, "option can't have this value: {}", Word(word)),
            Self::MissingProgram => f.write_str("no program to run"),
            Self::MissingOutput => f.write_str("no file to write to: -o FILE"),
            Self::UnexpectedWord(word) => write!(f, "unexpected word: {}", Word(word)),
        }
    }
}

/// A word as text that stays on one line, whatever bytes it has.
struct Word<'a>(&'a [u8]);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for piece in chunk.valid().split_inclusive(char::is_control) {
                f.write_str(piece.trim_end_matches(char::is_control))?;
                if piece.ends_with(char::is_control) {
                    f.write_str("\u{fffd}")?;
                }
            }
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

/// What an option does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effect {
    Summary,
    Trace,
    Empty,
    Output,
    NoFollow,
    Intercept,
    Strict,
    Report,
    NoIoUring,
    Follow,
    Help,
    Version,
}

/// What stands after an option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value {
    /// Nothing.
    None,
    /// Perhaps this, attached to the long name by `=`.
    Optional(&'static str),
    /// A value, attached or as the next word; its name in the help.
    Needed(&'static str),
}

/// One option: its names, what it takes and what it does.
struct Flag {
    short: Option<u8>,
    long: &'static str,
    value: Value,
    /// Empty for what is not for people.
    help: &'static str,
    effect: Effect,
}

static FLAGS: [Flag; 12] = [
    Flag {
        short: Some(b'c'),
        long: "summary",
        value: Value::Optional("pid"),
        help: "count calls, print a table at the end, or one a process",
        effect: Effect::Summary,
    },
    Flag { short: None, long: "trace", value: Value::None, help: "print each call", effect: Effect::Trace },
    Flag {
        short: None,
        long: "empty",
        value: Value::None,
        help: "hook each call and do nothing, for measuring",
        effect: Effect::Empty,
    },
    Flag {
        short: Some(b'o'),
        long: "output",
        value: Value::Needed("FILE"),
        help: "print to FILE instead of standard error",
        effect: Effect::Output,
    },
    Flag {
        short: None,
        long: "no-follow",
        value: Value::None,
        help: "leave alone what the program execs",
        effect: Effect::NoFollow,
    },
    Flag {
        short: None,
        long: "intercept",
        value: Value::Needed("MODE"),
        help: "for calls that are not proved: fast, auto, exhaustive",
        effect: Effect::Intercept,
    },
    Flag {
        short: None,
        long: "strict",
        value: Value::None,
        help: "end the program rather than let a call pass unseen",
        effect: Effect::Strict,
    },
    Flag {
        short: None,
        long: "report",
        value: Value::Optional("json"),
        help: "print at the end what was intercepted, and how",
        effect: Effect::Report,
    },
    Flag {
        short: None,
        long: "no-io-uring",
        value: Value::None,
        help: "io_uring_setup fails as if the kernel did not know it",
        effect: Effect::NoIoUring,
    },
    Flag { short: None, long: "follow", value: Value::Needed("ORIGIN"), help: "", effect: Effect::Follow },
    Flag {
        short: Some(b'h'),
        long: "help",
        value: Value::None,
        help: "print this help",
        effect: Effect::Help,
    },
    Flag {
        short: None,
        long: "version",
        value: Value::None,
        help: "print the version",
        effect: Effect::Version,
    },
];

const NOTHING_ASKED: Options<'static> = Options {
    summary: None,
    trace: false,
    empty: false,
    output: None,
    no_follow: false,
    intercept: Intercept::Auto,
    strict: false,
    report: None,
    no_io_uring: false,
    origin: None,
    option_words: 0,
    program: b"",
    program_index: 0,
};

/// Understands the words after the loader's own name.
///
/// `--help` and `--version` are answered where they stand, even if a program is missing. Of an option given twice
/// the last counts.
///
/// # Errors
///
/// The first word that can't be understood.
pub(crate) fn parse<'a>(words: impl Iterator<Item = &'a [u8]>) -> Result<Parsed<'a>, UsageError<'a>> {
    let mut options = NOTHING_ASKED;
    let mut intercept = None;
    let chosen = |intercept: Option<Intercept>, strict| match intercept {
        Some(intercept) => intercept,
        None if strict => Intercept::Exhaustive,
        None => Intercept::Auto,
    };
    let mut words = words.enumerate();
    while let Some((index, word)) = words.next() {
        options.option_words = index;
        if word == b"--" {
            break;
        }
        if !word.starts_with(b"-") || word == b"-" {
            let intercept = chosen(intercept, options.strict);
            return Ok(Parsed::Run(Options { program: word, program_index: index, intercept, ..options }));
        }
        let (flag, attached) = look_up(word)?;
        let value = value_of(flag, attached, word, || words.next().map(|(_, next)| next))?;
        match flag.effect {
            Effect::Summary if value.is_empty() => options.summary = Some(Summary::Total),
            Effect::Summary => options.summary = Some(Summary::ByProcess),
            Effect::Trace => options.trace = true,
            Effect::Empty => options.empty = true,
            Effect::Output => options.output = Some(value),
            Effect::NoFollow => options.no_follow = true,
            Effect::Intercept => {
                intercept = Some(Intercept::parse(value).ok_or(UsageError::InvalidValue(word))?);
            }
            Effect::Strict => options.strict = true,
            Effect::Report if value.is_empty() => options.report = Some(Report::Text),
            Effect::Report => options.report = Some(Report::Json),
            Effect::NoIoUring => options.no_io_uring = true,
            Effect::Follow => {
                options.origin = Some(Origin::parse(value).ok_or(UsageError::InvalidValue(word))?);
            }
            Effect::Help => return Ok(Parsed::Help),
            Effect::Version => return Ok(Parsed::Version),
        }
    }
    let (program_index, program) = words.next().ok_or(UsageError::MissingProgram)?;
    let intercept = chosen(intercept, options.strict);
    Ok(Parsed::Run(Options { program, program_index, intercept, ..options }))
}

/// The option that `word` names, and the value attached to it: `--output=FILE`, `-oFILE`.
fn look_up(word: &[u8]) -> Result<(&'static Flag, Option<&[u8]>), UsageError<'_>> {
    let found = match word.strip_prefix(b"--") {
        Some(long) => {
            let mut parts = long.splitn(2, |&byte| byte == b'=');
            let name = parts.next().unwrap_or_default();
            find(|flag| flag.long.as_bytes() == name).map(|flag| (flag, parts.next()))
        }
        None => word.strip_prefix(b"-").and_then(<[u8]>::split_first).and_then(|(&letter, rest)| {
            let attached = Some(rest).filter(|rest| !rest.is_empty());
            find(|flag| flag.short == Some(letter)).map(|flag| (flag, attached))
        }),
    };
    found.ok_or(UsageError::UnknownOption(word))
}

/// The value that `word` gives to `flag`, attached to it or as the next word; empty if there is none.
fn value_of<'a>(
    flag: &Flag,
    attached: Option<&'a [u8]>,
    word: &'a [u8],
    next: impl FnOnce() -> Option<&'a [u8]>,
) -> Result<&'a [u8], UsageError<'a>> {
    match (flag.value, attached) {
        (Value::None | Value::Optional(_), None) => Ok(b""),
        (Value::Optional(only), Some(value)) if word.starts_with(b"--") => {
            Some(value).filter(|value| *value == only.as_bytes()).ok_or(UsageError::InvalidValue(word))
        }
        (Value::None | Value::Optional(_), Some(_)) => Err(UsageError::UnexpectedValue(word)),
        (Value::Needed(_), attached) => {
            attached.or_else(next).filter(|value| !value.is_empty()).ok_or(UsageError::MissingValue(word))
        }
    }
}

fn find(is_it: impl Fn(&Flag) -> bool) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| is_it(flag))
}

/// The text of `--help`.
pub(crate) struct Help;

impl fmt::Display for Help {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("usage: loader [OPTIONS] [--] PROGRAM [ARGUMENTS]\n")?;
        f.write_str("       loader set-interp ...   makes the loader a program's interpreter\n\n")?;
        f.write_str("Runs PROGRAM with every system call passing through the loader.\n\n")?;
        for flag in FLAGS.iter().filter(|flag| !flag.help.is_empty()) {
            match flag.short {
                Some(letter) => write!(f, "  -{}, ", char::from(letter))?,
                None => f.write_str("      ")?,
            }
            let (open, value, close) = match flag.value {
                Value::None => ("", "", ""),
                Value::Optional(value) => ("[=", value, "]"),
                Value::Needed(value) => ("=", value, ""),
            };
            let width = 16_usize.saturating_sub(flag.long.len() + open.len() + value.len());
            writeln!(f, "--{}{open}{value}{close:width$}{}", flag.long, flag.help)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
