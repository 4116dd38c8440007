//! The command line, acted on: picks the tools, finds the program, starts it. Zone: load.
//!
//! There are three ways in: `loader PROGRAM`, `loader set-interp`, and a program whose interpreter the loader is. For
//! the last the options stand in the program's file and in the environment.

mod message;
mod own_file;
mod set_interp;

use crate::abi::errno::Errno;
use crate::hook::chain::{Chain, Member};
use crate::launch::{self, Failure, Found, mapped};
use crate::load::Process;
use crate::options::origin::Origin;
use crate::options::{self, Options, Parsed, UsageError};
use crate::runtime;
use crate::runtime::report;
use crate::runtime::session::Session;
use crate::runtime::session::output::Output;
use crate::runtime::session::tree::{self, Common, SharedLayout};
use crate::sys::file::{self, OpenFile};
use crate::sys::ids::{self, Status};
use crate::sys::shared::Segment;
use crate::tools::empty::Empty;
use crate::tools::ledger::{Counts, Entry, Ledger};
use crate::tools::summary::Summary;
use crate::tools::trace::{Label, Trace};
use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::sync::atomic::AtomicU32;

/// Processes that `--summary=pid` tells apart: those of a large build. Memory is taken only for those that there are.
const PROCESSES: usize = 8192;

/// What the tools have in common memory, in front of an [`Entry`] for each process.
#[derive(Default)]
#[repr(C, align(64))]
struct Shared {
    /// Of the summary.
    counts: Counts,
    /// Of the trace: whether there has been more than one thread.
    many: AtomicU32,
}

/// The environment variable with options for programs whose interpreter the loader is.
const VARIABLE: &str = "LOADER_OPTIONS";

/// The loader's life before the program's.
pub fn main(process: &Process) -> ! {
    if process.is_interpreter() {
        interpret(process)
    }
    let words = process.args.get(1..).unwrap_or_default();
    if let Some((&first, words)) = words.split_first()
        && first == c"set-interp"
    {
        set_interp::main(process, words)
    }
    match options::parse(words.iter().map(|word| word.to_bytes())) {
        Err(error) => message::misused(&error),
        Ok(Parsed::Help) => message::say(format_args!("{}", options::Help)),
        Ok(Parsed::Version) => message::say(format_args!("{}\n", options::VERSION)),
        Ok(Parsed::Run(options)) => {
            let args = words.get(options.program_index..).unwrap_or_default();
            let found = find(process, &options, args).unwrap_or_else(|failure| refuse(&failure));
            let typed = words.get(..options.option_words).unwrap_or_default();
            let asked = Asked::of(&found, typed).unwrap_or_else(|error| message::misused(&error));
            run(process, found, &asked, own_file::own_file(process))
        }
    }
}

/// Runs the program that the kernel has mapped.
fn interpret(process: &Process) -> ! {
    let found = mapped::find(process).unwrap_or_else(|failure| refuse(&failure));
    let variable = process.variable(VARIABLE.as_bytes()).filter(|_| !process.is_secure());
    let words = variable.unwrap_or_default().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let words: Vec<&CStr> = words.filter_map(|word| CString::new(word).ok()).map(own_file::kept).collect();
    let asked = Asked::of(&found, &words)
        .and_then(|asked| match asked.options.origin {
            // Nobody has exec'd this loader, whatever the environment says.
            Some(_) => Err(UsageError::UnexpectedWord(b"--follow")),
            None => Ok(asked),
        })
        .unwrap_or_else(|error| message::complain(Status::Usage, format_args!("{VARIABLE}: {error}")));
    let loader = own_file::kept(mapped::loader(&found, process));
    run(process, found, &asked, loader)
}

/// The options that count: those recorded in the program, then those that were typed.
struct Asked {
    options: Options<'static>,
    /// The words that they stand in.
    words: Vec<&'static CStr>,
    /// Whether the tools are those of the loader that exec'd this one.
    counts_on: bool,
    /// Whether the output is.
    prints_on: bool,
}

impl Asked {
    fn of(found: &Found, typed: &[&'static CStr]) -> Result<Self, UsageError<'static>> {
        let alone = understood(typed)?;
        let words: Vec<&CStr> =
            found.options().into_iter().map(own_file::kept).chain(typed.iter().copied()).collect();
        let options = understood(&words)?;
        let follows = alone.origin.is_some();
        Ok(Self {
            options,
            words,
            counts_on: follows
                && alone.summary == options.summary
                && (alone.summary.is_some() || alone.trace || alone.report.is_some()),
            prints_on: follows && alone.output.is_some(),
        })
    }
}

/// Words that are all options.
fn understood(words: &[&'static CStr]) -> Result<Options<'static>, UsageError<'static>> {
    let program = [&b"--"[..], b"program"];
    match options::parse(words.iter().map(|word| word.to_bytes()).chain(program))? {
        Parsed::Run(options) if options.option_words == words.len() => Ok(options),
        Parsed::Run(options) if options.option_words < words.len() => {
            Err(UsageError::UnexpectedWord(options.program))
        }
        Parsed::Run(_) => Err(UsageError::MissingValue(words.last().map_or(b"", |word| word.to_bytes()))),
        Parsed::Help | Parsed::Version => Err(UsageError::UnexpectedWord(b"--help or --version")),
    }
}

fn run(process: &Process, found: Found, asked: &Asked, loader: &'static CStr) -> ! {
    let options = &asked.options;
    let output = output(asked).unwrap_or_else(|(path, errno)| {
        message::complain(Status::Usage, format_args!("{}: {errno}", path.to_string_lossy()))
    });
    let inherited = options.origin.and_then(|origin| origin.output).map(OpenFile::inherited);
    if let Some(kept) = inherited.filter(|_| asked.prints_on) {
        Output::inherit(&kept);
    }
    let inherited = options.origin.and_then(|origin| origin.memory).map(OpenFile::inherited);
    let memory = inherited.filter(|_| asked.counts_on);
    let alone = || Origin { root: ids::id(), is_root: true, ..Origin::default() };
    let origin = options.origin.filter(|_| asked.counts_on).unwrap_or_else(alone);
    let has_words = options.summary.is_some() || options.trace || options.report.is_some();
    let common = has_words.then(|| common(&origin, memory, options, &output));
    let own = file::facts_at(loader).ok().map(|facts| facts.identity);
    let session = Session {
        tools: tools(options, common.as_ref()),
        program: own_file::kept(found.exe()),
        own,
        loader,
        root: origin.root,
        is_root: origin.is_root,
        words: words(process, asked, loader, &output),
        output,
        follows: !options.no_follow,
        intercept: options.intercept,
        is_strict: options.strict,
        refuses_io_uring: options.no_io_uring || options.strict,
        report: options.report,
        print_report: report::print,
        tree: common.map_or(tree::alone(), |common| common.tree),
        common,
    };
    let session: &Session = Box::leak(Box::new(session));
    if let Err(errno) = runtime::set_up(process, session, &found.name()) {
        if process.is_interpreter() && !process.is_secure() {
            mapped::restart(process, loader, session.words, session.program);
        }
        message::complain(Status::Internal, format_args!("no memory for the gate: {errno}"));
    }
    let start = if process.is_interpreter() { mapped::start } else { launch::start };
    match start(found, process, own) {
        Err(failure) => refuse(&failure),
        Ok(never) => match never {},
    }
}

/// The program: looked up as a shell does, or just as it was passed to an exec.
fn find(process: &Process, options: &Options<'_>, args: &[&CStr]) -> Result<launch::Found, Failure> {
    let Some((&name, rest)) = args.split_first() else {
        message::complain(Status::Usage, format_args!("no program to run"))
    };
    match options.origin {
        None => launch::find(name, args, process.variable(b"PATH")),
        Some(origin) => {
            launch::resolve(name.into(), rest, origin.file.map(OpenFile::inherited), origin.nameless)
        }
    }
}

/// The tools that the options ask for.
fn tools(options: &Options<'_>, common: Option<&Common>) -> Chain<'static> {
    let mut members: Vec<Member<'static>> = Vec::new();
    if let (Some(kind), Some(common)) = (options.summary, common) {
        let counts = &shared(common).counts;
        let summary = match kind {
            options::Summary::Total => Summary::new(counts),
            options::Summary::ByProcess => Summary::by_process(counts, ledger(common)),
        };
        members.push(Member::new(Box::leak(Box::new(summary))));
    }
    if let (true, Some(common)) = (options.trace, common) {
        let label = if options.output.is_some() { Label::Always } else { Label::WhenMany };
        members.push(Member::new(Box::leak(Box::new(Trace::new(label, &shared(common).many)))));
    }
    if options.empty {
        members.push(Member::new(&Empty));
    }
    Chain::new(members.leak()).unwrap_or(Chain::EMPTY)
}

/// The memory that all processes of the run share: found again, or made from the copy in `memory`, if any.
fn common(origin: &Origin, memory: Option<OpenFile>, options: &Options<'_>, output: &Output) -> Common {
    let processes = if options.summary == Some(options::Summary::ByProcess) { PROCESSES } else { 0 };
    let room = SharedLayout { fixed: size_of::<Shared>(), process: size_of::<Entry>(), processes };
    if let Some(found) = origin.segment.and_then(|segment| Common::find(Segment(segment), origin.root, room))
    {
        return found;
    }
    let made = Common::make(origin.root, room, memory).unwrap_or_else(|errno| {
        message::complain(Status::Internal, format_args!("no memory for the tools: {errno}"))
    });
    if let Some(table) = origin.table.and_then(|table| last_words_at(table, options, output)) {
        made.tree.close(table);
    }
    made
}

fn shared(common: &Common) -> &'static Shared {
    // SAFETY: `common` was made with room for it, 64-aligned memory that holds atomics, for which zero is valid.
    unsafe { &*core::ptr::with_exposed_provenance(common.room().0 as usize) }
}

fn ledger(common: &Common) -> Ledger {
    let first = common.room().wrapping_add(size_of::<Shared>() as u64);
    // SAFETY: `common` was made with room for as many, 64-aligned memory that holds atomics, for which zero is valid.
    let entries = unsafe {
        core::slice::from_raw_parts(core::ptr::with_exposed_provenance(first.0 as usize), PROCESSES)
    };
    Ledger::new(entries, &common.tree.started)
}

/// Where the last words stand that have been said to the output, if they have been, as far as the exec'ing loader knew.
/// Without the segment nobody else of the run is left: what the file has got since then are its last words.
fn last_words_at((at, len): (u64, u64), options: &Options<'_>, output: &Output) -> Option<(u64, u64)> {
    if len > 0 {
        return Some((at, len));
    }
    let grown = output.file_len()?.checked_sub(at)?;
    (grown > 0 && !options.trace && options.report.is_none()).then_some((at, grown))
}

/// Where the tools print. The file is made now, so that a bad name is an error of usage, and named by its absolute
/// path, since the program may change its directory.
fn output(asked: &Asked) -> Result<Output, (CString, Errno)> {
    let Some(typed) = asked.options.output else { return Ok(Output::Stderr) };
    let failure = |errno| (CString::new(typed).unwrap_or_default(), errno);
    let mut absolute = Vec::new();
    if typed.first() != Some(&b'/') {
        let mut buffer = [0_u8; 4096];
        absolute.extend_from_slice(file::working_directory(&mut buffer).map_err(failure)?);
        absolute.push(b'/');
    }
    absolute.extend_from_slice(typed);
    let path = own_file::kept(CString::new(absolute).unwrap_or_default());
    if !asked.prints_on {
        Output::create(path).map_err(failure)?;
    }
    Ok(Output::File(path))
}

/// What starts the loader again in the same way: its name, the options as typed, and the output by its full path.
fn words(
    process: &Process,
    asked: &Asked,
    loader: &'static CStr,
    output: &Output,
) -> &'static [&'static CStr] {
    let typed = process.args.first().filter(|_| !process.is_interpreter());
    let is_own = |word: &&CStr| !word.to_bytes().starts_with(b"--follow=");
    let options = asked.words.iter().copied().filter(is_own);
    // Copies, for the initial stack becomes the program's.
    let mut words: Vec<&'static CStr> = core::iter::once(typed.copied().unwrap_or(loader))
        .chain(options)
        .map(|word| own_file::kept(word.into()))
        .collect();
    if !asked.prints_on
        && let Output::File(path) = output
    {
        words.extend([c"-o", path]);
    }
    words.leak()
}

fn refuse(failure: &Failure) -> ! {
    let status = if failure.fault.is_missing() { Status::NotFound } else { Status::CannotRun };
    let program = message::shown(&failure.program);
    match &failure.interpreter {
        Some(interpreter) => message::complain(
            status,
            format_args!("{program}: {}: {}", message::shown(interpreter), failure.fault),
        ),
        None => message::complain(status, format_args!("{program}: {}", failure.fault)),
    }
}
