//! The words behind `loader set-interp`.
//!
//! `-o FILE` is the file to write; the tools' own output, which can be recorded too, is `--output=FILE` here.

use alloc::vec::Vec;

use super::{Effect, UsageError, look_up, value_of};

/// The text of `loader set-interp --help`.
pub(crate) const HELP: &str = "\
usage: loader set-interp [OPTIONS] PROGRAM -o FILE
       loader set-interp --print PROGRAM
       loader set-interp --restore PROGRAM -o FILE

Writes PROGRAM to FILE so that the kernel starts it under the loader.

  -o FILE              where the changed or restored program goes
      --loader=PATH    the loader to name, instead of this one
      --print          print what is recorded in PROGRAM
      --restore        give PROGRAM back its own interpreter, byte for byte

The loader's other options are recorded, and count each time FILE is started;
so do the words in LOADER_OPTIONS in the environment.
";

/// What is to be done to the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Action {
    /// Its interpreter becomes the loader.
    Set,
    /// What has been recorded in it is printed.
    Print,
    /// It becomes what it was.
    Restore,
}

/// What `loader set-interp` is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Request<'a> {
    /// What is to be done.
    pub action: Action,
    /// The program's file.
    pub program: &'a [u8],
    /// The file to write; empty for [`Action::Print`].
    pub output: &'a [u8],
    /// The loader's path; without one it is the running loader's.
    pub loader: Option<&'a [u8]>,
    /// The words of the options to record.
    pub options: Vec<&'a [u8]>,
}

/// Understands the words behind `set-interp`; `None` asks for [`HELP`].
///
/// # Errors
///
/// The first word that can't be understood, or what is missing.
pub(crate) fn parse<'a>(
    words: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<Request<'a>>, UsageError<'a>> {
    let mut action = Action::Set;
    let (mut program, mut output, mut loader) = (None, None, None);
    let mut options = Vec::new();
    let mut words = words;
    while let Some(word) = words.next() {
        match word {
            b"--print" => action = Action::Print,
            b"--restore" => action = Action::Restore,
            b"-h" | b"--help" => return Ok(None),
            b"-o" => output = Some(words.next().ok_or(UsageError::MissingValue(word))?),
            _ if word.starts_with(b"--loader=") => loader = word.get(b"--loader=".len()..),
            [b'-', _, ..] => record(word, &mut words, &mut options)?,
            _ if program.is_none() => program = Some(word),
            _ => return Err(UsageError::UnexpectedWord(word)),
        }
    }
    let output = match action {
        Action::Print => output.unwrap_or_default(),
        Action::Set | Action::Restore => output.ok_or(UsageError::MissingOutput)?,
    };
    let program = program.ok_or(UsageError::MissingProgram)?;
    Ok(Some(Request { action, program, output, loader, options }))
}

/// Takes an option to be recorded, and its value where that is the next word.
fn record<'a>(
    word: &'a [u8],
    rest: &mut impl Iterator<Item = &'a [u8]>,
    options: &mut Vec<&'a [u8]>,
) -> Result<(), UsageError<'a>> {
    let (flag, attached) = look_up(word)?;
    if matches!(flag.effect, Effect::Follow | Effect::Help | Effect::Version) {
        return Err(UsageError::UnknownOption(word));
    }
    let mut next = None;
    value_of(flag, attached, word, || {
        next = rest.next();
        next
    })?;
    options.push(word);
    options.extend(next);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    fn parse_text(line: &str) -> Result<Option<Request<'_>>, UsageError<'_>> {
        parse(line.split(' ').filter(|word| !word.is_empty()).map(str::as_bytes))
    }

    fn request(line: &str) -> Request<'_> {
        parse_text(line).unwrap().unwrap()
    }

    #[test]
    fn tells_the_loader_s_options_from_its_own() {
        let set = request("--loader=/l -c --output=t ls -o out --trace");
        assert_eq!((set.action, set.program, set.output), (Action::Set, &b"ls"[..], &b"out"[..]));
        assert_eq!(set.loader, Some(&b"/l"[..]));
        assert_eq!(set.options, [&b"-c"[..], b"--output=t", b"--trace"]);
        assert_eq!(request("--output t ls -o out").options, [&b"--output"[..], b"t"]);
        assert_eq!(request("--print ls").action, Action::Print);
        assert_eq!(request("ls --restore -o x").action, Action::Restore);
    }

    #[test]
    fn help_needs_nothing_else() {
        assert_eq!(parse_text("--help"), Ok(None));
        assert!(HELP.lines().all(|line| line.len() < 80));
    }

    #[test]
    fn says_what_is_wrong_in_one_line() {
        for (line, message) in [
            ("", "no file to write to: -o FILE"),
            ("ls", "no file to write to: -o FILE"),
            ("-o", "option needs a value: -o"),
            ("-o x", "no program to run"),
            ("--print", "no program to run"),
            ("a b -o x", "unexpected word: b"),
            ("--frob a -o x", "unknown option: --frob"),
            ("--follow=root=1 a -o x", "unknown option: --follow=root=1"),
            ("--version a -o x", "unknown option: --version"),
            ("--summary=x a -o x", "option can't have this value: --summary=x"),
            ("--trace=1 a -o x", "option takes no value: --trace=1"),
            ("--output= a -o x", "option needs a value: --output="),
        ] {
            assert_eq!(parse_text(line).unwrap_err().to_string(), message, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_recorded_is_understood_at_start(
            words in prop::collection::vec(prop::sample::select(
                std::vec!["-c", "--summary=pid", "--summary=x", "--trace", "--empty", "--no-follow", "--output=f", "--output", "x", "-o", "--"],
            ), 0..6),
        ) {
            let line = words.iter().map(|word| word.as_bytes()).chain([&b"-o"[..], b"out", b"prog"]);
            if let Ok(Some(request)) = parse(line) {
                let program = [&b"--"[..], b"prog"];
                let parsed = super::super::parse(request.options.iter().copied().chain(program));
                let expected = request.options.len();
                prop_assert!(
                    matches!(parsed, Ok(super::super::Parsed::Run(options)) if options.option_words == expected)
                );
            }
        }
    }
}
