//! Tests of [`super`].

use std::string::ToString;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn parse_text<'a>(line: &'a str) -> Result<Parsed<'a>, UsageError<'a>> {
    parse(line.split(' ').filter(|word| !word.is_empty()).map(str::as_bytes))
}

fn options(line: &str) -> Options<'_> {
    match parse_text(line) {
        Ok(Parsed::Run(options)) => options,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_first_word_that_is_no_option_is_the_program() {
    let parsed = options("-c --trace --empty ls --summary -x");
    assert!(parsed.summary == Some(Summary::Total) && parsed.trace && parsed.empty);
    assert_eq!((parsed.program, parsed.program_index), (&b"ls"[..], 3));
    assert_eq!(options("ls").program_index, 0);
    assert_eq!(options("ls -c").summary, None);
    assert_eq!(options("- x").program, b"-");
}

#[test]
fn two_dashes_end_the_options() {
    let parsed = options("-c -- -odd --trace");
    assert_eq!((parsed.program, parsed.program_index), (&b"-odd"[..], 2));
    assert!(!parsed.trace);
    assert_eq!(options("-- --").program, b"--");
}

#[test]
fn counts_the_words_that_are_options() {
    assert_eq!(options("-c -o f x -c").option_words, 3);
    assert_eq!(options("-c -o -- -- x").option_words, 3);
    assert_eq!(options("x").option_words, 0);
}

#[test]
fn an_exec_d_loader_is_told_its_origin() {
    let parsed = options("--follow=root=7,file=3 -c -- x");
    assert_eq!(parsed.origin, Some(Origin { root: 7, file: Some(3), ..Origin::default() }));
    assert!(parsed.summary.is_some() && !Help.to_string().contains("--follow"));
}

#[test]
fn a_value_may_be_attached_or_stand_alone() {
    for line in ["-o a=b x", "-oa=b x", "--output=a=b x", "--output a=b x"] {
        assert_eq!(options(line).output, Some(&b"a=b"[..]), "{line}");
        assert_eq!(options(line).program, b"x", "{line}");
    }
    assert_eq!(options("-o -- x").output, Some(&b"--"[..]));
    assert_eq!(options("-o a -o b x").output, Some(&b"b"[..]));
}

#[test]
fn the_summary_is_of_all_or_by_process() {
    assert_eq!(options("--summary x").summary, Some(Summary::Total));
    assert_eq!(options("-c --summary=pid x").summary, Some(Summary::ByProcess));
}

#[test]
fn says_how_far_completeness_goes() {
    assert_eq!(options("x").intercept, Intercept::Auto);
    assert_eq!(options("--intercept=fast --intercept exhaustive x").intercept, Intercept::Exhaustive);
    assert_eq!(options("--strict --intercept=auto x").intercept, Intercept::Auto);
    assert_eq!(options("--strict -- x").intercept, Intercept::Exhaustive);
    let parsed = options("--strict --no-io-uring --report x");
    assert!(parsed.strict && parsed.no_io_uring);
    assert_eq!(parsed.report, Some(Report::Text));
    assert_eq!(options("--report=json x").report, Some(Report::Json));
}

#[test]
fn help_and_version_need_no_program() {
    for line in ["-h", "--help", "-c --help", "--help --nonsense"] {
        assert_eq!(parse_text(line), Ok(Parsed::Help), "{line}");
    }
    assert_eq!(parse_text("--version"), Ok(Parsed::Version));
    assert_eq!(options("ls --help").program, b"ls");
}

#[test]
fn says_what_is_wrong_in_one_line() {
    for (line, message) in [
        ("--frob x", "unknown option: --frob"),
        ("-x x", "unknown option: -x"),
        ("--summ x", "unknown option: --summ"),
        ("--=y x", "unknown option: --=y"),
        ("-co x", "option takes no value: -co"),
        ("--summary=x x", "option can't have this value: --summary=x"),
        ("--trace=yes x", "option takes no value: --trace=yes"),
        ("-o", "option needs a value: -o"),
        ("--output= x", "option needs a value: --output="),
        ("--intercept=some x", "option can't have this value: --intercept=some"),
        ("--intercept some x", "option can't have this value: --intercept"),
        ("--report=yaml x", "option can't have this value: --report=yaml"),
        ("--follow=me x", "option can't have this value: --follow=me"),
        ("", "no program to run"),
        ("-c", "no program to run"),
        ("-c --", "no program to run"),
    ] {
        assert_eq!(parse_text(line).unwrap_err().to_string(), message, "{line}");
    }
}

#[test]
fn an_error_shows_no_byte_that_would_break_its_line() {
    let error = UsageError::UnknownOption(b"--a\n\x1bb\xffc\xc3\xa9");
    assert_eq!(error.to_string(), "unknown option: --a\u{fffd}\u{fffd}b\u{fffd}c\u{e9}");
}

#[test]
fn an_empty_word_is_a_program() {
    let parsed = parse([&b""[..]].into_iter());
    assert!(matches!(parsed, Ok(Parsed::Run(Options { program: b"", program_index: 0, .. }))));
    assert_eq!(parse([&b"-o"[..], b"", b"x"].into_iter()), Err(UsageError::MissingValue(b"-o")));
}

#[test]
fn every_option_in_the_help_is_understood() {
    let help = Help.to_string();
    let mut shown = 0;
    for word in help.split_whitespace().filter(|word| word.len() > 1 && word.starts_with('-')) {
        let word = word.trim_end_matches([',', ']']).replace("[=", "=").replace("=MODE", "=auto");
        let line = std::format!("{word} x x");
        assert!(parse_text(&line).is_ok(), "{word}");
        shown += 1;
    }
    let flags = FLAGS.iter().filter(|flag| !flag.help.is_empty());
    let names = flags.map(|flag| 1 + usize::from(flag.short.is_some())).sum::<usize>();
    assert_eq!(shown, names);
    assert!(help.lines().all(|line| line.len() < 80), "{help}");
}

proptest! {
    #[test]
    fn whatever_was_typed_gives_a_program_or_a_word_at_fault(
        words in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..6),
            prop::sample::select(alloc::vec!["-c", "--trace", "-o", "-of", "--output=", "--output", "--"])
                .prop_map(|word| word.as_bytes().to_vec()),
        ], 0..6),
    ) {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        match parse(words.iter().copied()) {
            Ok(Parsed::Run(options)) => {
                prop_assert_eq!(words.get(options.program_index), Some(&options.program));
            }
            Ok(_) => {}
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
    }
}
